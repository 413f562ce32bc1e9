/** The small pieces that every view is made of. */
import type { ComponentChildren } from 'preact';
import { ApiError } from '../api/client';
import type { Micros, NodeState } from '../api/types';
import { ago, clock, utc } from '../lib/format';
import { now } from '../state/clock';
import { Icon, type IconName } from './icons';

/** An instant in the reader's zone; UTC on hover. */
export function Time({ at, relative = false }: { at: Micros | null | undefined; relative?: boolean }) {
  if (at === null || at === undefined) return <span class="muted">–</span>;
  return (
    <time class="num" dateTime={new Date(at / 1000).toISOString()} title={relative ? `${clock(at)} · ${utc(at)}` : utc(at)}>
      {relative ? ago(at, now.value) : clock(at)}
    </time>
  );
}

export const STATE_WORDS: Record<NodeState, string> = {
  ok: 'running', idle: 'idle', behind: 'behind', retrying: 'retrying', failed: 'failed',
};

export type Tone = 'good' | 'quiet' | 'warn' | 'bad' | 'info';

export const STATE_TONES: Record<NodeState, Tone> = { ok: 'good', idle: 'quiet', behind: 'warn', retrying: 'warn', failed: 'bad' };

/** A state in a word, an icon and a colour, so that no reader depends on the colour. */
export function Pill({ tone, icon, children, title }: { tone: Tone; icon?: IconName; children: ComponentChildren; title?: string }) {
  return (
    <span class={`pill ${tone}`} title={title}>
      {icon && <Icon name={icon} size={13} />}
      {children}
    </span>
  );
}

export function StatePill({ state }: { state: NodeState }) {
  return <Pill tone={STATE_TONES[state] ?? 'quiet'} icon={state in STATE_TONES ? state : 'idle'}>{STATE_WORDS[state] ?? state}</Pill>;
}

/** What a view says when it has nothing to show: why, and what to do next. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty" role="status">
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
    </div>
  );
}

export function Loading() {
  return <div class="empty" role="status"><p class="muted">Loading…</p></div>;
}

/** An error in the API's own words: what, the next step, the code. */
export function Failure({ error, again }: { error: Error; again?: () => void }) {
  const api = error instanceof ApiError ? error : null;
  // Messages about SQL have the place below them, drawn with characters of one width.
  const [what = '', ...place] = error.message.split('\n');
  return (
    <div class="failure" role="alert">
      <p><strong>{sentence(what)}</strong></p>
      {place.length > 0 && <pre class="place">{place.join('\n')}</pre>}
      {api?.detail && <p class="preserve">{api.detail}</p>}
      <p class="row">
        {api?.code && <code title="Say `watershed explain` and this code for more">{api.code}</code>}
        {again && <button type="button" class="small" onClick={again}>Try again</button>}
      </p>
    </div>
  );
}

export const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

export function Stat({ label, value, note, tone, title }: {
  label: string; value: ComponentChildren; note?: ComponentChildren; tone?: Tone | undefined; title?: string;
}) {
  return (
    <div class={`stat ${tone ?? ''}`} title={title}>
      <div class="stat-label">{label}</div>
      <div class="stat-value num">{value}</div>
      <div class="stat-note num">{note ?? '\u00a0'}</div>
    </div>
  );
}

/** Wide content that scrolls sideways, with the keyboard too. */
export function Scroll({ label, children }: { label: string; children: ComponentChildren }) {
  return <div class="scroll-x" role="region" aria-label={label} tabIndex={0}>{children}</div>;
}

export function Page({ title, what, actions, children }: {
  title: string; what: string; actions?: ComponentChildren; children: ComponentChildren;
}) {
  return (
    <>
      <header class="page-head">
        <div>
          <h1 tabIndex={-1}>{title}</h1>
          <p class="muted">{what}</p>
        </div>
        {actions && <div class="row">{actions}</div>}
      </header>
      {children}
    </>
  );
}
