import { useState } from 'preact/hooks';
import { api } from '../api/client';
import type { CheckpointEpoch, Finding, Manifest } from '../api/types';
import { bytes, count, duration, plural } from '../lib/format';
import { go, route } from '../router';
import { graph } from '../state/pipeline';
import { may } from '../state/session';
import { Empty, Failure, Loading, Page, Pill, Scroll, Time } from '../ui/bits';
import { Icon } from '../ui/icons';
import { Json } from '../ui/json';
import { walkWithArrows } from '../ui/list';
import { useLoad } from '../ui/load';

const PAGE = 100;

function Verify() {
  const [state, setState] = useState<{ busy: boolean; error: Error | null; answer: { ok: boolean; findings: Finding[]; elapsed_seconds: number } | null }>({ busy: false, error: null, answer: null });
  const run = async () => {
    setState({ busy: true, error: null, answer: null });
    try {
      setState({ busy: false, error: null, answer: await api.verify() });
    } catch (failure) {
      setState({ busy: false, error: failure as Error, answer: null });
    }
  };
  const allowed = may('operator');
  return (
    <section class="card pad" aria-label="Audit">
      <div class="row between wrap">
        <div>
          <h2>Audit</h2>
          <p class="muted">Compares the ledger, the checkpoint, the lake and the sinks with each other, as <code>watershed verify</code> does. It reads only.</p>
        </div>
        <button type="button" class="primary" disabled={state.busy || !allowed} title={allowed ? undefined : 'This needs the role operator'} onClick={() => void run()}>{state.busy ? 'Checking…' : 'Verify now'}</button>
      </div>
      <div aria-live="polite">
        {state.error && <Failure error={state.error} />}
        {state.answer && (
          <>
            <p><Pill tone={state.answer.ok ? 'good' : 'bad'} icon={state.answer.ok ? 'ok' : 'failed'}>{state.answer.ok ? 'everything agrees' : 'something does not agree'}</Pill> <span class="muted num">{plural(state.answer.findings.length, 'finding')} in {duration(state.answer.elapsed_seconds)}</span></p>
            <ul class="findings">
              {state.answer.findings.map((finding, i) => (
                <li key={i} class={finding.level}>
                  <Icon name={finding.level === 'ok' ? 'ok' : finding.level === 'fail' ? 'failed' : 'idle'} size={14} />
                  <span><b>{finding.check}</b> {finding.text}{finding.hint && <em class="muted"> {finding.hint}</em>}</span>
                </li>
              ))}
            </ul>
          </>
        )}
      </div>
    </section>
  );
}

function ManifestPanel({ epoch }: { epoch: number }) {
  const { value, error, reload } = useLoad<Manifest>((signal) => api.checkpoint(epoch, signal), [epoch]);
  return (
    <aside class="panel card" aria-label={`Checkpoint ${epoch}`}>
      <header class="row between">
        <h2>Epoch {count(epoch)}</h2>
        <button type="button" class="ghost square" aria-label="Close" onClick={() => go('checkpoints')}><Icon name="close" /></button>
      </header>
      {error && <Failure error={error} again={reload} />}
      {!value && !error && <Loading />}
      {value && (
        <>
          <dl class="facts">
            <dt>generation</dt><dd class="num">{count(value.generation)}</dd>
            <dt>prepared</dt><dd><Time at={value.prepared_at} /></dd>
            <dt>committed</dt><dd><Time at={value.committed_at} /></dd>
            <dt>watermark</dt><dd><Time at={value.watermark} /></dd>
            <dt>ticks</dt><dd class="num">{count(value.ticks.length)}</dd>
          </dl>
          <h3>State files</h3>
          {value.state.length === 0
            ? <p class="muted">Nothing had to be remembered.</p>
            : (
              <Scroll label="State files">
                <table class="grid compact">
                  <thead><tr><th>operator</th><th class="right">rows</th><th class="right">size</th><th>whole</th><th>needed until</th></tr></thead>
                  <tbody>
                    {value.state.map((file) => (
                      <tr key={file.path} title={file.path}><td>{file.operator}</td><td class="num right">{count(file.rows)}</td><td class="num right">{bytes(file.bytes)}</td><td>{file.whole ? 'yes' : 'a part'}</td><td><Time at={file.expires_at} /></td></tr>
                    ))}
                  </tbody>
                </table>
              </Scroll>
            )}
          <h3>Positions a restart would read from</h3>
          <Json text={JSON.stringify(value.sources)} />
        </>
      )}
    </aside>
  );
}

function Row({ epoch, chosen }: { epoch: CheckpointEpoch; chosen: boolean }) {
  const rows = Object.values(epoch.sinks).reduce((sum, sink) => sum + sink.rows, 0);
  const refused = Object.values(epoch.sinks).reduce((sum, sink) => sum + sink.refused, 0);
  const open = () => epoch.kept && go(`checkpoints/${epoch.epoch}`);
  return (
    <tr tabIndex={0} data-item aria-selected={chosen} class={`${epoch.kept ? 'pick' : ''} ${chosen ? 'chosen' : ''}`} onClick={open} onKeyDown={(event) => event.key === 'Enter' && open()}>
      <td class="num right">{count(epoch.epoch)}</td>
      <td>{epoch.complete ? <Pill tone="good" icon="ok">complete</Pill> : <Pill tone="warn" icon="behind" title="Prepared, not yet in every sink; a restart would finish it">prepared</Pill>}</td>
      <td class="num right">{count(epoch.generation)}</td>
      <td><Time at={epoch.committed_at ?? epoch.prepared_at} /></td>
      <td class="num right">{count(rows)}</td>
      <td class={`num right ${refused ? '' : 'zero'}`}>{count(refused)}</td>
      <td class="num right">{bytes(epoch.state_bytes)}</td>
      <td>{epoch.kept ? 'kept' : <span class="muted" title="Its accounts are in the ledger; the manifest is no longer needed">folded away</span>}</td>
    </tr>
  );
}

export function CheckpointsView() {
  const chosen = route.value.rest ? Number(route.value.rest) : null;
  const [older, setOlder] = useState<{ epochs: CheckpointEpoch[]; next: string | null } | null>(null);
  const [trouble, setTrouble] = useState<Error | null>(null);
  const { value, error, reload } = useLoad((signal) => api.checkpoints({ limit: PAGE }, signal), [graph.value?.epoch]);
  const what = 'What a restart would start from: epochs that were prepared and committed.';
  const seen = new Set<number>();
  const epochs = [...(value?.epochs ?? []), ...(older?.epochs ?? [])].filter((e) => (seen.has(e.epoch) ? false : (seen.add(e.epoch), true)));
  const next = older ? older.next : (value?.next ?? null);
  const loadMore = async () => {
    try {
      const page = await api.checkpoints({ limit: PAGE, cursor: next ?? undefined });
      setOlder({ epochs: [...(older?.epochs ?? []), ...page.epochs], next: page.next });
    } catch (failure) {
      setTrouble(failure as Error);
    }
  };
  return (
    <Page title="Checkpoints" what={what}>
      <Verify />
      {error && <Failure error={error} again={reload} />}
      {!value && !error && <Loading />}
      {value && epochs.length === 0 && <Empty title="No checkpoint yet"><p>The first is written when the first epoch closes, soon after the first record. Until then a restart begins from nothing.</p></Empty>}
      {epochs.length > 0 && (
        <div class={`split ${chosen !== null ? 'with-panel' : ''}`}>
          <div>
            <div class="card scroll-x">
              <table class="grid" onKeyDown={walkWithArrows}>
                <thead><tr><th class="right">epoch</th><th>commit</th><th class="right">generation</th><th>time</th><th class="right">rows</th><th class="right">refused</th><th class="right">state</th><th>manifest</th></tr></thead>
                <tbody>{epochs.map((epoch) => <Row key={epoch.epoch} epoch={epoch} chosen={chosen === epoch.epoch} />)}</tbody>
              </table>
            </div>
            {trouble && <Failure error={trouble} />}
            {next && <p class="row center"><button type="button" onClick={() => void loadMore()}>Older</button></p>}
          </div>
          {chosen !== null && <ManifestPanel epoch={chosen} />}
        </div>
      )}
    </Page>
  );
}
