import { useState } from 'preact/hooks';
import { api } from '../api/client';
import type { Alert } from '../api/types';
import { short } from '../lib/format';
import { href, route } from '../router';
import { alerts, isOpen, isSilenced } from '../state/alerts';
import { now } from '../state/clock';
import { may } from '../state/session';
import { Empty, Failure, Loading, Page, Pill, Time, type Tone } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import type { IconName } from '../ui/icons';
import { walkWithArrows } from '../ui/list';

const LOOK: Record<string, [Tone, IconName]> = { firing: ['bad', 'alerts'], pending: ['warn', 'behind'], resolved: ['good', 'ok'], ok: ['good', 'ok'] };
const RANK: Record<string, number> = { firing: 0, pending: 1, resolved: 2, ok: 3 };
const HOURS: [string, number][] = [['15 minutes', 900], ['1 hour', 3600], ['4 hours', 14_400], ['24 hours', 86_400]];

function replace(alert: Alert): void {
  if (!alerts.value) return;
  alerts.value = { ...alerts.value, alerts: alerts.value.alerts.map((old) => (old.id === alert.id ? alert : old)) };
}

/** One question, then the request; what the server says stays on the screen if it says no. */
function Ask({ title, act, onClose, children, label }: {
  title: string; act: (form: FormData) => Promise<Alert>; onClose: () => void; children: preact.ComponentChildren; label: string;
}) {
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent & { currentTarget: HTMLFormElement }) => {
    event.preventDefault();
    setBusy(true);
    try {
      replace(await act(new FormData(event.currentTarget)));
      onClose();
    } catch (failure) {
      setError(failure as Error);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        {children}
        {error && <Failure error={error} />}
        <div class="row end">
          <button type="button" class="ghost" onClick={onClose}>Cancel</button>
          <button class="primary" disabled={busy}>{label}</button>
        </div>
      </form>
    </Dialog>
  );
}

function Actions({ alert }: { alert: Alert }) {
  const [asking, setAsking] = useState<'silence' | 'ack' | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const silenced = isSilenced(alert, now.value);
  const allowed = may('operator');
  const why = allowed ? undefined : 'This needs the role operator';
  const close = () => setAsking(null);
  return (
    <>
      <div class="row end">
        {alert.state === 'firing' && !alert.acked_by && <button type="button" class="small" disabled={!allowed} title={why} onClick={() => setAsking('ack')}>Acknowledge</button>}
        {silenced
          ? <button type="button" class="small" disabled={!allowed} title={why} onClick={() => api.silence(alert.id, 0, '').then(replace, setError)}>End the silence</button>
          : <button type="button" class="small" disabled={!allowed} title={why} onClick={() => setAsking('silence')}>Silence</button>}
      </div>
      {error && <Failure error={error} />}
      {asking === 'ack' && (
        <Ask title={`Acknowledge “${alert.name}”`} label="Acknowledge" onClose={close} act={(form) => api.acknowledge(alert.id, String(form.get('note')))}>
          <p>Others see that you have it. The alert goes on firing until its cause is gone.</p>
          <label>Note <input name="note" autofocus placeholder="what you are doing about it" /></label>
        </Ask>
      )}
      {asking === 'silence' && (
        <Ask title={`Silence “${alert.name}”`} label="Silence" onClose={close} act={(form) => api.silence(alert.id, Number(form.get('seconds')), String(form.get('reason')))}>
          <p>Nobody is notified meanwhile. It stays visible here.</p>
          <label>For <select name="seconds" defaultValue="3600">{HOURS.map(([label, seconds]) => <option key={seconds} value={seconds}>{label}</option>)}</select></label>
          <label>Reason <input name="reason" autofocus required placeholder="for whoever comes next" /></label>
        </Ask>
      )}
    </>
  );
}

function target(alert: Alert) {
  if (!alert.target) return <span class="muted">–</span>;
  return <a href={href('overview', { node: alert.target })}>{alert.target.replace(/^\w+:/, '')}</a>;
}

/** A page to open if it is an address; else where it is, in the project's documentation. */
function Runbook({ alert }: { alert: Alert }) {
  const page = alert.runbook ?? alert.labels?.runbook;
  if (!page) return null;
  return /^https?:/.test(page) ? <a href={page} target="_blank" rel="noreferrer">Runbook</a> : <span>runbook: <code>{page}</code></span>;
}

function Card({ alert }: { alert: Alert }) {
  const [tone, icon] = LOOK[alert.state] ?? ['quiet', 'idle'];
  const silenced = isSilenced(alert, now.value);
  return (
    <li class={`card alert ${isOpen(alert) && !silenced ? tone : ''}`} tabIndex={0} data-item data-alert={alert.id}>
      <div class="alert-main">
        <div class="row wrap">
          <Pill tone={silenced ? 'quiet' : tone} icon={icon}>{alert.state}</Pill>
          <span class={`severity ${alert.severity}`}>{alert.severity}</span>
          <h2>{alert.name}</h2>
        </div>
        {alert.text && <p>{alert.text}</p>}
        <p class="muted row wrap small">
          <span>since <Time at={alert.since} /> (<Time at={alert.since} relative />)</span>
          {alert.value !== null && <span>value <b class="num">{typeof alert.value === 'number' ? short(alert.value) : alert.value}</b></span>}
          <span>about {target(alert)}</span>
          <Runbook alert={alert} />
        </p>
        {alert.acked_by && <p class="small">Acknowledged by <strong>{alert.acked_by}</strong>, <Time at={alert.acked_at} relative /></p>}
        {silenced && <p class="small">Silenced until <Time at={alert.silenced_until} /></p>}
      </div>
      <Actions alert={alert} />
    </li>
  );
}

function shown(alert: Alert, text: string): boolean {
  const needle = text.trim().toLowerCase();
  return needle === '' || `${alert.name} ${alert.text ?? ''} ${alert.target ?? ''} ${alert.severity}`.toLowerCase().includes(needle);
}

export function AlertsView() {
  const [text, setText] = useState(route.value.query.text ?? '');
  const answer = alerts.value;
  const what = 'What called, since when, and who has it.';
  if (!answer) return <Page title="Alerts" what={what}><Loading /></Page>;
  if (!answer.available) {
    return (
      <Page title="Alerts" what={what}>
        <Empty title="No alerts are set up">
          <p>A rule looks at the pipeline all the time and calls somebody when it must. Write rules into the section <code>[alerts]</code> of <code>watershed.toml</code>; <code>docs/guides/alerts.md</code> has some to start with. Until then, the overview says what it finds wrong by itself.</p>
        </Empty>
      </Page>
    );
  }
  const sorted = [...answer.alerts].filter((alert) => shown(alert, text))
    .sort((a, b) => (RANK[a.state] ?? 9) - (RANK[b.state] ?? 9) || (b.since ?? 0) - (a.since ?? 0));
  const openOnes = sorted.filter(isOpen);
  const rest = sorted.filter((alert) => !isOpen(alert));
  return (
    <Page title="Alerts" what={what} actions={<input type="search" data-search placeholder="Search alerts" aria-label="Search alerts" value={text} onInput={(event) => setText(event.currentTarget.value)} />}>
      {openOnes.length === 0
        ? <Empty title="Nothing is open">{text ? <p>… that fits “{text}”.</p> : <p>No rule has anything to say. What called before is below, if anything did.</p>}</Empty>
        : <ul class="alerts" onKeyDown={walkWithArrows} aria-label="Open alerts">{openOnes.map((alert) => <Card key={alert.id} alert={alert} />)}</ul>}
      {rest.length > 0 && (
        <>
          <h2>Quiet</h2>
          <ul class="alerts" onKeyDown={walkWithArrows} aria-label="Quiet alerts">{rest.map((alert) => <Card key={alert.id} alert={alert} />)}</ul>
        </>
      )}
      {answer.history.length > 0 && (
        <>
          <h2>What happened</h2>
          <div class="card scroll-x">
            <table class="grid">
              <thead><tr><th>time</th><th>alert</th><th>became</th><th>because</th></tr></thead>
              <tbody>
                {answer.history.slice(0, 100).map((entry, i) => (
                  <tr key={`${entry.at} ${entry.id} ${i}`}>
                    <td><Time at={entry.at} /></td><td>{entry.id}</td>
                    <td><Pill tone={LOOK[entry.state]?.[0] ?? 'quiet'} icon={LOOK[entry.state]?.[1] ?? 'idle'}>{entry.state}</Pill></td>
                    <td>{entry.text ?? '–'}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
    </Page>
  );
}
