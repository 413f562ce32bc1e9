/**
 * Time series: asked for once, then grown by the point that comes each second.
 *
 * One store for all charts, so that opening a chart costs no request, and all charts end at the same instant.
 */
import { signal } from '@preact/signals';
import { api } from '../api/client';
import { subscribe } from '../api/live';
import type { SeriesAnswer } from '../api/types';

export type Resolution = '1s' | '10s';

const KEPT = { '1s': 600, '10s': 720 } as const;

export interface Store {
  /** Seconds since 1970, as the chart library wants them. */
  times: number[];
  values: Map<string, (number | null)[]>;
}

interface Point {
  seq: number;
  at: number;
  values: Record<string, number | null>;
}

const empty = (): Store => ({ times: [], values: new Map() });

/** Bumped on every change of a store; the arrays themselves are changed in place. */
export const revision = signal(0);
export const stores: Record<Resolution, Store> = { '1s': empty(), '10s': empty() };
export const seriesError = signal<Error | null>(null);
export const loaded = signal(false);

function take(resolution: Resolution, answer: SeriesAnswer): void {
  stores[resolution] = {
    times: answer.times.map((time) => time / 1e6),
    values: new Map(Object.entries(answer.series)),
  };
  loaded.value = true;
  revision.value++;
}

function append(store: Store, point: Point): void {
  const time = point.at / 1e6;
  const last = store.times.at(-1) ?? 0;
  if (time <= last) return;
  store.times.push(time);
  const length = store.times.length;
  for (const [name, value] of Object.entries(point.values)) {
    let column = store.values.get(name);
    if (!column) {
      column = new Array<number | null>(length - 1).fill(null);
      store.values.set(name, column);
    }
    column.push(value);
  }
  for (const column of store.values.values()) if (column.length < length) column.push(null);
  const surplus = length - KEPT['1s'];
  if (surplus <= 0) return;
  store.times.splice(0, surplus);
  for (const column of store.values.values()) column.splice(0, surplus);
}

async function fetchWhole(resolution: Resolution): Promise<void> {
  try {
    take(resolution, await api.series({ resolution }));
    seriesError.value = null;
  } catch (error) {
    seriesError.value = error as Error;
  }
}

/** Keeps the store of a resolution current until the returned function is called. */
export function watchSeries(resolution: Resolution): () => void {
  void fetchWhole(resolution);
  if (resolution === '10s') {
    const timer = setInterval(() => void fetchWhole('10s'), 10_000);
    return () => clearInterval(timer);
  }
  let seq = -1;
  return subscribe('series', (message) => {
    const point = message as unknown as Point;
    const gap = seq >= 0 && point.seq !== seq + 1;
    seq = point.seq;
    if (gap) void fetchWhole('1s');
    else if (loaded.value) {
      append(stores['1s'], point);
      revision.value++;
    }
  });
}

/** The last value that was known, if it was within the last few points. */
export function latest(name: string, resolution: Resolution = '1s'): number | null {
  const column = stores[resolution].values.get(name);
  if (!column) return null;
  for (let i = column.length - 1; i >= Math.max(0, column.length - 5); i--) {
    const value = column[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}
