import { useState } from 'preact/hooks';
import { duration, percent } from '../../lib/format';
import { stores, revision, type Resolution } from '../../state/series';
import { Pill } from '../../ui/bits';
import { TimeChart } from '../../ui/time-chart';
import { objectiveOf, setObjective } from './objectives';

const MEANING: Record<string, [string, string]> = {
  event: ['Event to door', 'from the time in the record until it was accepted'],
  processed: ['Door to result', 'from acceptance until through the plan; live rows leave here'],
  lake: ['Door to lake', 'from acceptance until committed in the lake'],
};

export function stageWords(stage: string): [string, string] {
  if (stage.startsWith('sink:')) return [`Door to ${stage.slice(5)}`, 'from acceptance until committed in this sink'];
  return MEANING[stage] ?? [stage, ''];
}

/** How many of the seconds shown kept the objective. */
function kept(series: string, limit: number, resolution: Resolution): { share: number; of: number } | null {
  const known = (stores[resolution].values.get(series) ?? []).filter((v): v is number => v !== null);
  if (known.length === 0) return null;
  return { share: known.filter((v) => v <= limit).length / known.length, of: known.length };
}

function ObjectiveField({ series, resolution }: { series: string; resolution: Resolution }) {
  const objective = objectiveOf(series);
  const [editing, setEditing] = useState(false);
  revision.value;
  const result = objective && kept(series, objective.seconds, resolution);
  if (editing) {
    return (
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          const value = new FormData(event.currentTarget).get('seconds');
          setObjective(series, value ? Number(value) : null);
          setEditing(false);
        }}
      >
        <label class="row small">99 of 100 within
          <input name="seconds" type="number" min="0.001" step="any" autofocus defaultValue={objective ? String(objective.seconds) : ''} class="short" /> s
        </label>
        <button class="small">Set</button>
        <button type="button" class="small ghost" onClick={() => setEditing(false)}>Cancel</button>
      </form>
    );
  }
  return (
    <div class="row small">
      {objective && result && (
        <Pill tone={result.share >= 0.99 ? 'good' : result.share > 0.9 ? 'warn' : 'bad'} icon={result.share >= 0.99 ? 'ok' : 'behind'} title="Share of the time shown in which p99 kept the objective">
          kept {percent(result.share)} of the time
        </Pill>
      )}
      {objective?.from === 'project'
        ? <span class="muted">objective of the project: {duration(objective.seconds)}</span>
        : <button type="button" class="small" onClick={() => setEditing(true)}>{objective ? `Objective ${duration(objective.seconds)}: change` : 'Set an objective'}</button>}
    </div>
  );
}

export function LatencyChart({ stage, resolution }: { stage: string; resolution: Resolution }) {
  const [title, note] = stageWords(stage);
  const name = `latency.${stage}`;
  const objective = objectiveOf(`${name}.p99`);
  return (
    <div class="chart-with-foot">
      <TimeChart
        title={title}
        note={note}
        resolution={resolution}
        format={duration}
        logarithmic
        objective={objective ? { value: objective.seconds, label: `objective ${duration(objective.seconds)}` } : null}
        lines={[
          { series: `${name}.p50`, label: 'half', hue: 1 },
          { series: `${name}.p95`, label: '95 of 100', hue: 2 },
          { series: `${name}.p99`, label: '99 of 100', hue: 3 },
        ]}
      />
      <ObjectiveField series={`${name}.p99`} resolution={resolution} />
    </div>
  );
}
