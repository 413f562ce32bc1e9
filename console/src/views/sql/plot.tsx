import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import type { QueryAnswer } from '../../api/types';
import { plural, short } from '../../lib/format';
import { colour, theme } from '../../state/theme';
import { axisLook, TIMES } from '../../ui/axes';
import { Empty } from '../../ui/bits';
import { aligned, asNumber, byChoices, firstPlan, groupsOf, kindsFor, MOST_BARS, xChoices, yChoices, type Groups, type PlotKind, type PlotPlan } from './plot-plan';

const HEIGHT = 320;
const HUES = 6;
const WORDS: Record<PlotKind, string> = { line: 'Line', bar: 'Bars', scatter: 'Scatter' };
const hueOf = (i: number): number => (i % HUES) + 1;

function Canvas({ answer, plan, groups }: { answer: QueryAnswer; plan: PlotPlan; groups: Groups }) {
  const host = useRef<HTMLDivElement>(null);
  const look = theme.value;
  useEffect(() => {
    const box = host.current;
    if (!box) return undefined;
    const data = aligned(groups) as unknown as uPlot.AlignedData;
    const axis = axisLook();
    const numbers = { ...axis, values: (_: uPlot, splits: number[]) => splits.map((v) => short(v)) };
    const time = answer.columns[plan.x]?.kind === 'time';
    const scatter = plan.kind === 'scatter';
    const plot = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: true, y: false } },
        scales: { x: { time, ...(scatter ? { range: (_, min, max) => [min - (max - min || 1) * 0.03, max + (max - min || 1) * 0.03] } : {}) }, y: {} },
        axes: [time ? { ...axis, values: TIMES } : numbers, { ...numbers, size: 64 }],
        series: [
          {},
          ...groups.names.map((label, i) => ({
            label,
            stroke: colour(`hue-${hueOf(i)}`),
            fill: scatter ? colour(`hue-${hueOf(i)}`) : undefined,
            width: scatter ? 0 : 1.75,
            ...(i >= HUES && !scatter ? { dash: [5, 3] } : {}),
            ...(scatter ? { paths: () => null } : {}),
            points: { show: scatter || (data[0]?.length ?? 0) < 60, size: scatter ? 6 : 5, fill: colour(`hue-${hueOf(i)}`) },
            spanGaps: true,
          })),
        ],
      } as uPlot.Options,
      data,
      box,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: HEIGHT }));
    observer.observe(box);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [answer, JSON.stringify(plan), look]);
  const points = groups.points.reduce((sum, list) => sum + list.length, 0);
  return <div ref={host} class="plot" role="img" aria-label={`${WORDS[plan.kind]} chart of ${answer.columns[plan.y]?.name} by ${answer.columns[plan.x]?.name}, ${plural(points, 'point')}`} style={{ height: `${HEIGHT}px` }} />;
}

/** Lying bars: names stay readable, and a screen reader reads the figures. */
function Bars({ answer, plan }: { answer: QueryAnswer; plan: PlotPlan }) {
  const rows = answer.rows.slice(0, MOST_BARS).map((row) => ({
    name: [row[plan.x], plan.by !== null && plan.by !== plan.x ? row[plan.by] : undefined].filter((part) => part !== undefined).map((part) => String(part ?? 'null')).join(' · '),
    value: asNumber(row[plan.y], 'number'),
  }));
  const most = Math.max(...rows.map((row) => Math.abs(row.value ?? 0)), 1e-12);
  return (
    <ol class="bars" aria-label={`Bars of ${answer.columns[plan.y]?.name} by ${answer.columns[plan.x]?.name}`}>
      {rows.map((row, i) => (
        <li key={i}>
          <span class="bar-name" title={row.name}>{row.name}</span>
          <span class="bar-bed"><i class={(row.value ?? 0) < 0 ? 'negative' : ''} style={{ width: `${(Math.abs(row.value ?? 0) / most) * 100}%` }} /></span>
          <b class="num">{short(row.value)}</b>
        </li>
      ))}
    </ol>
  );
}

function Choose({ label, value, choices, names, onChange, none }: {
  label: string; value: number | null; choices: number[]; names: string[]; onChange: (value: number | null) => void; none?: string;
}) {
  return (
    <label>{label}
      <select value={value === null ? '' : String(value)} onChange={(event) => onChange(event.currentTarget.value === '' ? null : Number(event.currentTarget.value))}>
        {none && <option value="">{none}</option>}
        {choices.map((i) => <option key={i} value={String(i)}>{names[i]}</option>)}
      </select>
    </label>
  );
}

export function Plot({ answer }: { answer: QueryAnswer }) {
  const [plan, setPlan] = useState<PlotPlan | null>(() => firstPlan(answer));
  useEffect(() => setPlan(firstPlan(answer)), [answer]);
  if (!plan || answer.rows.length === 0) {
    return <Empty title="Nothing to draw"><p>A chart needs rows with at least one number: <code>SELECT status, count(*) … GROUP BY status</code></p></Empty>;
  }
  const names = answer.columns.map((column) => column.name);
  const groups = plan.kind === 'bar' ? null : groupsOf(answer, plan);
  return (
    <section class="card pad plot-card" aria-label="Chart">
      <div class="row wrap filters-plain">
        <div class="segments" role="group" aria-label="Kind of chart">
          {kindsFor(answer.columns).map((kind) => <button key={kind} type="button" aria-pressed={plan.kind === kind} onClick={() => setPlan(firstPlan(answer, kind))}>{WORDS[kind]}</button>)}
        </div>
        <Choose label={plan.kind === 'bar' ? 'name' : 'x'} value={plan.x} choices={xChoices(answer.columns, plan.kind)} names={names} onChange={(x) => setPlan({ ...plan, x: x ?? 0 })} />
        <Choose label={plan.kind === 'bar' ? 'length' : 'y'} value={plan.y} choices={yChoices(answer.columns)} names={names} onChange={(y) => setPlan({ ...plan, y: y ?? 0 })} />
        {byChoices(answer.columns).length > 0 && <Choose label="split by" value={plan.by} choices={byChoices(answer.columns)} names={names} none="nothing" onChange={(by) => setPlan({ ...plan, by })} />}
      </div>
      {groups
        ? (
          <>
            <ul class="legend">{groups.names.map((name, i) => <li key={name}><i class={`swatch hue-${hueOf(i)} ${i >= HUES ? 'dashed' : ''}`} /> {name}</li>)}</ul>
            <Canvas answer={answer} plan={plan} groups={groups} />
            {groups.left > 0 && <p class="muted small">{plural(groups.left, 'row')} with NULL in x or y {groups.left === 1 ? 'is' : 'are'} not drawn.</p>}
            {groups.dropped > 0 && <p class="muted small">{plural(groups.dropped, 'more group')} {groups.dropped === 1 ? 'is' : 'are'} not drawn: more than eight cannot be told apart.</p>}
          </>
        )
        : (
          <>
            <Bars answer={answer} plan={plan} />
            {answer.rows.length > MOST_BARS && <p class="muted small">The first {MOST_BARS} of {plural(answer.rows.length, 'row')} are drawn.</p>}
          </>
        )}
    </section>
  );
}
