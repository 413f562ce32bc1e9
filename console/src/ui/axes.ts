/** What all charts share: the look of axes, a clock of 24 hours, dates as ISO writes them. */
import type uPlot from 'uplot';
import { colour } from '../state/theme';

export const axisLook = () => ({
  stroke: colour('text-2'),
  grid: { stroke: colour('grid'), width: 1 },
  ticks: { stroke: colour('grid'), width: 1, size: 4 },
  font: '11px system-ui, sans-serif',
});

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** uPlot's own table of formats by step, which writes 11/21/26 and am/pm, in our words. */
export const TIMES = [
  [365 * DAY, '{YYYY}', null, null, null, null, null, null, 1],
  [28 * DAY, '{YYYY}-{MM}', null, null, null, null, null, null, 1],
  [DAY, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
  [HOUR, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [MINUTE, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [1, '{HH}:{mm}:{ss}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [0.001, '{HH}:{mm}:{ss}.{fff}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
] as unknown as uPlot.Axis.Values;

/** For spans of minutes and hours up to now, where the day goes without saying. */
export const CLOCK = [
  [DAY, '{MM}-{DD}', null, null, null, null, null, null, 1],
  [MINUTE, '{HH}:{mm}', null, null, null, null, null, null, 1],
  [0.001, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1],
] as unknown as uPlot.Axis.Values;

/** Steps for durations: of a clock, once they are longer than seconds. */
export const TIME_STEPS = [
  ...[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1].flatMap((unit) => [unit, 2 * unit, 5 * unit]),
  10, 15, 30, ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), ...[1, 2, 3, 6, 12].map((n) => n * HOUR), ...[1, 2, 5, 10, 30, 100, 365].map((n) => n * DAY),
];

/** Steps for sizes: 1, 2, 4 … of each binary unit, so that an axis says 64 MiB and not 61.0 MiB. */
export const BINARY_STEPS = Array.from({ length: 50 }, (_, i) => 2 ** i);
