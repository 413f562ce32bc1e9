/**
 * Replaying: first asked as a dry run, so that the question says what would happen; then done; then watched until the
 * pipeline has taken the rows.
 */
import { useEffect, useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { ReplayAnswer, ReplayFilter } from '../../api/types';
import { count, plural } from '../../lib/format';
import { href } from '../../router';
import { Failure, Loading, Pill } from '../../ui/bits';
import { Dialog } from '../../ui/dialog';

export type Choice = { ids: string[] } | { filter: ReplayFilter };

type Step =
  | { at: 'asking' }
  | { at: 'confirm'; plan: ReplayAnswer }
  | { at: 'sending'; plan: ReplayAnswer }
  | { at: 'sent'; done: ReplayAnswer; replayedBefore: number }
  | { at: 'failed'; error: Error };

const POLL_MS = 1000;

async function replayedSoFar(): Promise<number> {
  const summary = await api.quarantineSummary();
  return summary.groups.reduce((sum, group) => sum + group.replayed, 0);
}

function LeftOut({ plan }: { plan: ReplayAnswer }) {
  const { replayed, results, gone } = plan.left_out;
  if (replayed + results + gone === 0) return null;
  return (
    <ul class="muted">
      {replayed > 0 && <li>{plural(replayed, 'row was', 'rows were')} replayed before and will not go twice.</li>}
      {results > 0 && <li>{plural(results, 'row is a', 'rows are')} result of a query or what a sink refused, not input; only input can go again.</li>}
      {gone > 0 && <li>{plural(gone, 'row')} can no longer be traced to an input.</li>}
    </ul>
  );
}

function Progress({ done, replayedBefore, onTaken }: { done: ReplayAnswer; replayedBefore: number; onTaken: () => void }) {
  const [taken, setTaken] = useState(0);
  const [error, setError] = useState<Error | null>(null);
  const all = taken >= done.rows;
  useEffect(() => {
    if (all) {
      onTaken();
      return undefined;
    }
    const timer = setInterval(() => {
      replayedSoFar().then((n) => setTaken(Math.max(0, n - replayedBefore)), setError);
    }, POLL_MS);
    return () => clearInterval(timer);
  }, [all]);
  return (
    <div aria-live="polite">
      <p>
        {all ? <Pill tone="good" icon="ok">taken</Pill> : <Pill tone="info" icon="retrying">on its way</Pill>}{' '}
        <b class="num">{count(Math.min(taken, done.rows))}</b> of <b class="num">{count(done.rows)}</b> rows are in a committed epoch.
      </p>
      {!all && <p class="muted">They are committed with the epoch that is open. This window may be closed meanwhile.</p>}
      {all && <p>Rows that pass now are in their tables; rows that fail again are back in quarantine under a new epoch. <a href={href('ledger')}>The ledger</a> has them as <code>replay:SOURCE</code>.</p>}
      <p class="muted small">Request {done.request}</p>
      {error && <Failure error={error} />}
    </div>
  );
}

export function ReplayDialog({ choice, onClose, onTaken }: { choice: Choice; onClose: () => void; onTaken: () => void }) {
  const [step, setStep] = useState<Step>({ at: 'asking' });
  useEffect(() => {
    api.replay(choice, true).then((plan) => setStep({ at: 'confirm', plan }), (error: Error) => setStep({ at: 'failed', error }));
  }, []);

  const send = async (plan: ReplayAnswer) => {
    setStep({ at: 'sending', plan });
    try {
      const replayedBefore = await replayedSoFar();
      const done = await api.replay(choice, false);
      setStep({ at: 'sent', done, replayedBefore });
    } catch (error) {
      setStep({ at: 'failed', error: error as Error });
    }
  };

  return (
    <Dialog title="Replay quarantined rows" onClose={onClose}>
      {step.at === 'asking' && <Loading />}
      {step.at === 'failed' && <Failure error={step.error} />}
      {(step.at === 'confirm' || step.at === 'sending') && (
        <>
          {step.plan.rows === 0
            ? <p><strong>None of these rows can be replayed.</strong></p>
            : <p><strong class="num">{plural(step.plan.rows, 'row')}</strong> will be sent through the pipeline again, as their bytes came, with the rules and the schema of now. Each goes once.</p>}
          <LeftOut plan={step.plan} />
          {step.plan.rows > 0 && <p class="muted">If the cause is not mended yet, they will be refused again. Nothing is lost either way.</p>}
          <div class="row end">
            <button type="button" class="ghost" onClick={onClose}>Cancel</button>
            {step.plan.rows > 0 && (
              <button type="button" class="primary" autofocus disabled={step.at === 'sending'} onClick={() => void send(step.plan)}>
                {step.at === 'sending' ? 'Sending…' : `Replay ${plural(step.plan.rows, 'row')}`}
              </button>
            )}
          </div>
        </>
      )}
      {step.at === 'sent' && (
        <>
          <Progress done={step.done} replayedBefore={step.replayedBefore} onTaken={onTaken} />
          <div class="row end"><button type="button" class="primary" onClick={onClose}>Close</button></div>
        </>
      )}
    </Dialog>
  );
}
