import { useEffect } from 'preact/hooks';
import { bytes, duration, rate } from '../../lib/format';
import { refine, route } from '../../router';
import { graph } from '../../state/pipeline';
import { loaded, revision, seriesError, stores, watchSeries, type Resolution } from '../../state/series';
import { Empty, Failure, Page } from '../../ui/bits';
import { TimeChart, type Line } from '../../ui/time-chart';
import { EpochTimeline } from './epochs';
import { LatencyChart } from './latency';

const HUES = 6;

/** A line for each node of a kind that has the series; every colour comes once plain and once dashed. */
function linesOf(kind: 'source' | 'table' | 'sink', measure: string, resolution: Resolution): Line[] {
  const names = (graph.value?.nodes ?? []).filter((node) => node.kind === kind).map((node) => node.name);
  return names
    .filter((name) => stores[resolution].values.has(`${kind}.${name}.${measure}`))
    .slice(0, 2 * HUES)
    .map((name, i) => ({ series: `${kind}.${name}.${measure}`, label: name, hue: (i % HUES) + 1, dash: i >= HUES }));
}

function stagesOf(resolution: Resolution): string[] {
  const found = new Set<string>();
  for (const name of stores[resolution].values.keys()) {
    const match = /^latency\.(.+)\.p99$/.exec(name);
    if (match?.[1]) found.add(match[1]);
  }
  const order = ['event', 'processed', 'lake'];
  const place = (stage: string) => (order.includes(stage) ? order.indexOf(stage) : order.length);
  return [...found].sort((a, b) => place(a) - place(b) || a.localeCompare(b));
}

export function PerformanceView() {
  const resolution: Resolution = route.value.query.span === '2h' ? '10s' : '1s';
  useEffect(() => (resolution === '10s' ? watchSeries('10s') : undefined), [resolution]);
  revision.value;
  const span = (
    <div class="segments" role="group" aria-label="Time span">
      <button type="button" aria-pressed={resolution === '1s'} onClick={() => refine({ span: undefined })}>10 minutes</button>
      <button type="button" aria-pressed={resolution === '10s'} onClick={() => refine({ span: '2h' })}>2 hours</button>
    </div>
  );
  const sinks = linesOf('sink', 'rate', resolution);
  return (
    <Page title="Performance" what="How much goes through, how long it takes, what it costs. All charts share one time axis." actions={span}>
      {seriesError.value && <Failure error={seriesError.value} />}
      {loaded.value && stores[resolution].times.length < 2 && (
        <Empty title="No history yet"><p>The server keeps ten minutes by the second and two hours by ten seconds, from its start on. Stay a moment.</p></Empty>
      )}
      <h2>Throughput</h2>
      <div class="charts">
        <TimeChart title="Sources, read" resolution={resolution} format={rate} lines={linesOf('source', 'rate', resolution)} />
        <TimeChart title="Sources, waiting to be read" resolution={resolution} format={rateless} lines={linesOf('source', 'lag', resolution)} />
        <TimeChart title="Tables, rows made" resolution={resolution} format={rate} lines={linesOf('table', 'rate', resolution)} />
        {sinks.length > 0 && <TimeChart title="Sinks, rows written" resolution={resolution} format={rate} lines={sinks} />}
        <TimeChart title="Tables, rows refused" resolution={resolution} format={rate} lines={linesOf('table', 'quarantined_rate', resolution)} />
      </div>
      <h2>Latency by stage</h2>
      {stagesOf(resolution).length === 0 && <Empty title="No latency measured yet"><p>It appears with the first records.</p></Empty>}
      <div class="charts">
        {stagesOf(resolution).map((stage) => <LatencyChart key={stage} stage={stage} resolution={resolution} />)}
      </div>
      <h2>Event time</h2>
      <div class="charts">
        <TimeChart title="Watermark behind the clock" resolution={resolution} format={duration} lines={linesOf('source', 'watermark_lag_seconds', resolution)} />
        <TimeChart title="Late rows" resolution={resolution} format={rate} lines={linesOf('table', 'late_rate', resolution)} />
      </div>
      <h2>State and machine</h2>
      <div class="charts">
        <TimeChart title="State by table" resolution={resolution} format={bytes} lines={linesOf('table', 'state_bytes', resolution)} />
        <TimeChart title="Memory" resolution={resolution} format={bytes} lines={[{ series: 'memory_bytes', label: 'whole process', hue: 1 }, { series: 'state_bytes', label: 'state', hue: 2 }]} />
        <TimeChart title="Processor" resolution={resolution} format={cores} lines={[{ series: 'cpu', label: 'cores busy', hue: 1 }]} />
        <TimeChart title="Tick and commit" resolution={resolution} format={duration} lines={[{ series: 'tick_seconds', label: 'tick', hue: 1 }, { series: 'commit_seconds', label: 'commit', hue: 2 }]} />
      </div>
      <h2>Epochs</h2>
      <section class="card pad"><EpochTimeline /></section>
    </Page>
  );
}

const cores = (value: number | null): string => (value === null ? '–' : value.toFixed(2));
const rateless = (value: number | null): string => rate(value).replace('/s', '');
