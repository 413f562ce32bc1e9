/** How a result may be drawn: decided by the kinds of its columns, changed by whoever looks. Pure. */
import type { Cell, QueryAnswer, ResultColumn } from '../../api/types';

export type PlotKind = 'line' | 'bar' | 'scatter';

export interface PlotPlan {
  kind: PlotKind;
  /** Places of columns. */
  x: number;
  y: number;
  /** One line or cloud for each value of this column; null: all in one. */
  by: number | null;
}

export const MOST_GROUPS = 8;
export const MOST_BARS = 60;

const places = (columns: ResultColumn[], kind: ResultColumn['kind']): number[] =>
  columns.flatMap((column, i) => (column.kind === kind ? [i] : []));

export function kindsFor(columns: ResultColumn[]): PlotKind[] {
  const numbers = places(columns, 'number').length;
  const kinds: PlotKind[] = [];
  if (numbers >= 1 && (places(columns, 'time').length >= 1 || numbers >= 2)) kinds.push('line');
  if (numbers >= 1) kinds.push('bar');
  if (numbers >= 2) kinds.push('scatter');
  return kinds;
}

export function xChoices(columns: ResultColumn[], kind: PlotKind): number[] {
  if (kind === 'line') return [...places(columns, 'time'), ...places(columns, 'number')];
  if (kind === 'scatter') return places(columns, 'number');
  return columns.map((_, i) => i);
}

export const yChoices = (columns: ResultColumn[]): number[] => places(columns, 'number');
export const byChoices = (columns: ResultColumn[]): number[] => [...places(columns, 'text'), ...places(columns, 'boolean')];

/** null if there is no number to draw. */
export function firstPlan(answer: QueryAnswer, wanted?: PlotKind): PlotPlan | null {
  const { columns } = answer;
  const kinds = kindsFor(columns);
  const texts = byChoices(columns);
  const times = places(columns, 'time');
  const numbers = places(columns, 'number');
  const kind = wanted && kinds.includes(wanted) ? wanted : times.length > 0 && kinds.includes('line') ? 'line' : texts.length > 0 && kinds.includes('bar') ? 'bar' : kinds.includes('scatter') ? 'scatter' : kinds[0];
  if (!kind) return null;
  const x = kind === 'bar' ? (texts[0] ?? times[0] ?? 0) : (xChoices(columns, kind)[0] ?? 0);
  const y = numbers.find((i) => i !== x) ?? numbers[0] ?? 0;
  const by = kind === 'bar' ? null : (texts.find((i) => new Set(answer.rows.map((row) => row[i])).size <= MOST_GROUPS) ?? null);
  return { kind, x, y, by };
}

export function asNumber(value: Cell | undefined, kind: ResultColumn['kind']): number | null {
  if (value === null || value === undefined || value === '') return null;
  if (kind === 'time') {
    const text = String(value);
    // The API writes UTC, with a zone or without one.
    const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text.length === 10 ? `${text}T00:00:00` : text.replace(' ', 'T')}Z`;
    const at = Date.parse(zoned);
    return Number.isNaN(at) ? null : at / 1000;
  }
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

export interface Groups {
  names: string[];
  /** Points of each group, by x. */
  points: [number, number][][];
  /** Rows that have no place: NULL in x or y. */
  left: number;
  /** Groups beyond the most that can be told apart. */
  dropped: number;
}

export function groupsOf(answer: QueryAnswer, plan: PlotPlan): Groups {
  const groups = new Map<string, [number, number][]>();
  let left = 0;
  for (const row of answer.rows) {
    const x = asNumber(row[plan.x], answer.columns[plan.x]!.kind);
    const y = asNumber(row[plan.y], 'number');
    if (x === null || y === null) {
      left++;
      continue;
    }
    const name = plan.by === null ? answer.columns[plan.y]!.name : String(row[plan.by] ?? 'null');
    const points = groups.get(name);
    if (points) points.push([x, y]);
    else groups.set(name, [[x, y]]);
  }
  const all = [...groups].sort((a, b) => b[1].length - a[1].length);
  const shown = all.slice(0, MOST_GROUPS).sort((a, b) => a[0].localeCompare(b[0]));
  return {
    names: shown.map(([name]) => name),
    points: shown.map(([, points]) => points.sort((a, b) => a[0] - b[0])),
    left,
    dropped: all.length - shown.length,
  };
}

/** One x for all groups, as uPlot wants it; a point that shares its x with one of its own group gets a place of its own. */
export function aligned(groups: Groups): (number | null)[][] {
  const slots: { x: number; ys: (number | null)[] }[] = [];
  const open = new Map<number, { x: number; ys: (number | null)[] }[]>();
  groups.points.forEach((points, g) => {
    for (const [x, y] of points) {
      const here = open.get(x) ?? [];
      let slot = here.find((s) => s.ys[g] === null);
      if (!slot) {
        slot = { x, ys: new Array<number | null>(groups.names.length).fill(null) };
        here.push(slot);
        open.set(x, here);
        slots.push(slot);
      }
      slot.ys[g] = y;
    }
  });
  slots.sort((a, b) => a.x - b.x);
  return [slots.map((s) => s.x), ...groups.names.map((_, g) => slots.map((s) => s.ys[g] ?? null))];
}
