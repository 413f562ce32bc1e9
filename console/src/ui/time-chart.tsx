/**
 * A chart over time on the shared store. uPlot draws; the legend is ours, so that it has the values under the cursor
 * in figures of one width, and words for those who do not see the canvas.
 */
import { effect } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { brief, bytes, clock, duration, NOTHING } from '../lib/format';
import { revision, stores, type Resolution } from '../state/series';
import { colour, theme } from '../state/theme';
import { axisLook, BINARY_STEPS, CLOCK, TIME_STEPS } from './axes';

export interface Line {
  /** Name of the series in the store. */
  series: string;
  label: string;
  /** 1-based place in the palette. */
  hue: number;
  dash?: boolean;
}

export interface Props {
  title: string;
  note?: string;
  lines: Line[];
  resolution: Resolution;
  /** How a value is written, with its unit. */
  format: (value: number | null) => string;
  objective?: { value: number; label: string } | null;
  logarithmic?: boolean;
  height?: number;
}

const SYNC = uPlot.sync('time');

function dataOf(resolution: Resolution, lines: Line[]): uPlot.AlignedData {
  const store = stores[resolution];
  const nothing = new Array<null>(store.times.length).fill(null);
  return [store.times, ...lines.map((line) => store.values.get(line.series) ?? nothing)] as uPlot.AlignedData;
}

/** A logarithmic axis knows no zero: a value that is 0 is not drawn rather than drawn wrong. */
const positive = (data: uPlot.AlignedData): uPlot.AlignedData =>
  data.map((column, i) => (i === 0 ? column : [...column].map((v) => (v !== null && v !== undefined && v > 0 ? v : null)))) as uPlot.AlignedData;

function drawObjective(value: number, label: string): (plot: uPlot) => void {
  return (plot) => {
    const { ctx, bbox } = plot;
    const y = plot.valToPos(value, 'y', true);
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour('objective');
    ctx.lineWidth = devicePixelRatio * 1.5;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = 'right';
    ctx.textBaseline = y - bbox.top > 16 * devicePixelRatio ? 'bottom' : 'top';
    ctx.fillText(label, bbox.left + bbox.width - 4 * devicePixelRatio, y - 2 * devicePixelRatio);
    ctx.restore();
  };
}

function options(props: Props, width: number, height: number, onCursor: (index: number | null) => void): uPlot.Options {
  const axis = axisLook();
  const { objective, logarithmic } = props;
  return {
    width,
    height,
    legend: { show: false },
    cursor: { sync: { key: SYNC.key, setSeries: false }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true },
      y: logarithmic
        ? { distr: 3, range: (_, min, max) => [Math.min(min ?? 1e-3, objective?.value ?? Infinity) / 1.5, Math.max(max ?? 1, objective?.value ?? 0) * 1.5] }
        : { range: (_, __, max) => [0, Math.max(max ?? 0, objective?.value ?? 0) * 1.08 || 1] },
    },
    axes: [
      { ...axis, size: 26, values: CLOCK },
      { ...axis, size: 64, values: (_, splits) => splits.map((v) => (v === null ? '' : (props.format === duration ? brief : props.format)(v))), ...(logarithmic ? { filter: oneTwoFive, grid: { ...axis.grid, filter: oneTwoFive as uPlot.Axis.Filter } } : {}), ...(props.format === bytes ? { incrs: BINARY_STEPS } : props.format === duration ? { incrs: TIME_STEPS } : {}) },
    ],
    series: [
      {},
      ...props.lines.map((line) => ({
        label: line.label,
        stroke: colour(`hue-${line.hue}`),
        width: 1.75,
        ...(line.dash ? { dash: [5, 3] } : {}),
        points: { show: true, size: 4, fill: colour(`hue-${line.hue}`), filter: lonely },
        spanGaps: false,
      })),
    ],
    hooks: {
      setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)],
      draw: objective ? [drawObjective(objective.value, objective.label)] : [],
    },
  };
}

/** A value between two unknown ones makes no line; it is drawn as a point, or a rare measurement would not be seen. */
function lonely(plot: uPlot, series: number): number[] {
  const column = plot.data[series] ?? [];
  const found: number[] = [];
  for (let i = 0; i < column.length; i++) if (column[i] != null && column[i - 1] == null && column[i + 1] == null) found.push(i);
  return found;
}

/** Labels at 1, 2, 5, 10 …, or at 1, 10, 100 … if there are many; what lies between keeps its line. */
function oneTwoFive(_: uPlot, splits: number[]): (number | null)[] {
  const leading = (v: number): number => Number((v / 10 ** Math.floor(Math.log10(v) + 1e-9)).toFixed(3));
  const wanted = splits.length > 20 ? [1] : [1, 2, 5];
  return splits.map((v) => (wanted.includes(leading(v)) ? v : null));
}

export function TimeChart(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const height = props.height ?? 180;
  const key = JSON.stringify([props.lines, props.objective, props.resolution, props.logarithmic, height]);

  useEffect(() => {
    const box = host.current;
    if (!box) return undefined;
    const data = () => {
      const raw = dataOf(props.resolution, props.lines);
      return props.logarithmic ? positive(raw) : raw;
    };
    let plot: uPlot | null = null;
    const stop = effect(() => {
      // Colours are read from the style sheet once: another theme needs another plot.
      theme.value;
      plot?.destroy();
      plot = new uPlot(options(props, box.clientWidth || 300, height, setCursor), data(), box);
    });
    const stopData = effect(() => {
      revision.value;
      plot?.setData(data());
    });
    const observer = new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height }));
    observer.observe(box);
    return () => {
      stop();
      stopData();
      observer.disconnect();
      plot?.destroy();
    };
  }, [key]);

  revision.value;
  const store = stores[props.resolution];
  const valueOf = (line: Line): number | null => {
    const column = store.values.get(line.series);
    if (!column) return null;
    if (cursor !== null) return column[cursor] ?? null;
    for (let i = column.length - 1; i >= Math.max(0, column.length - 15); i--) if (column[i] != null) return column[i] ?? null;
    return null;
  };
  const time = cursor === null ? null : store.times[cursor];
  const summary = props.lines.map((line) => `${line.label} ${props.format(valueOf(line))}`).join(', ');
  return (
    <figure class="chart card">
      <figcaption>
        <div class="row between">
          <h3>{props.title}</h3>
          <span class="muted num chart-time">{time ? clock(time * 1e6) : 'now'}</span>
        </div>
        {props.note && <p class="muted small">{props.note}</p>}
        <ul class="legend">
          {props.lines.map((line) => (
            <li key={line.series}>
              <i class={`swatch hue-${line.hue} ${line.dash ? 'dashed' : ''}`} />
              <span>{line.label}</span>
              <b class="num">{props.lines.length ? props.format(valueOf(line)) : NOTHING}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={host} class="plot" role="img" aria-label={`${props.title}: ${summary}`} style={{ height: `${height}px` }} />
    </figure>
  );
}
