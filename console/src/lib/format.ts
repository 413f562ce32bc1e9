/** Numbers with units, and times in the reader's zone. Nothing known is always "–", never 0. */
import type { Micros } from '../api/types';

export const NOTHING = '–';

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });

function known(value: number | null | undefined): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

/** 1234567 → "1,234,567" */
export function count(value: number | null | undefined): string {
  return known(value) ? whole.format(value) : NOTHING;
}

/** Three significant digits: 51234 → "51.2 k" */
export function short(value: number | null | undefined): string {
  if (!known(value)) return NOTHING;
  const size = Math.abs(value);
  if (size < 999.5) return size < 10 ? String(Number(value.toFixed(size < 1 ? 2 : 1))) : value.toFixed(0);
  for (const [unit, factor] of [['k', 1e3], ['M', 1e6], ['G', 1e9], ['T', 1e12]] as const) {
    const scaled = value / factor;
    if (Math.abs(scaled) < 999.5) return `${scaled.toFixed(Math.abs(scaled) < 9.995 ? 2 : Math.abs(scaled) < 99.95 ? 1 : 0)} ${unit}`;
  }
  return value.toExponential(1);
}

export function rate(value: number | null | undefined): string {
  return known(value) ? `${short(value)}/s` : NOTHING;
}

export function bytes(value: number | null | undefined): string {
  if (!known(value)) return NOTHING;
  let scaled = value;
  let unit = 'B';
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB', 'PiB']) {
    if (Math.abs(scaled) < 1023.5) break;
    scaled /= 1024;
    unit = next;
  }
  const digits = unit === 'B' || Math.abs(scaled) >= 99.95 ? 0 : Math.abs(scaled) >= 9.995 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${unit}`;
}

/** 0.0123 → "12.3 ms", 75 → "1 min 15 s" */
export function duration(seconds: number | null | undefined): string {
  if (!known(seconds)) return NOTHING;
  const size = Math.abs(seconds);
  if (size === 0) return '0 s';
  if (size < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (size < 0.9995) return `${(seconds * 1e3).toFixed(size < 0.00995 ? 1 : 0)} ms`;
  if (size < 59.95) return `${seconds.toFixed(size < 9.95 ? 2 : 1)} s`;
  const sign = seconds < 0 ? '-' : '';
  const total = Math.round(size);
  const days = Math.floor(total / 86_400);
  const hours = Math.floor((total % 86_400) / 3_600);
  const minutes = Math.floor((total % 3_600) / 60);
  if (days > 0) return `${sign}${days} d ${hours} h`;
  if (hours > 0) return `${sign}${hours} h ${minutes} min`;
  return `${sign}${minutes} min ${total % 60} s`;
}

/** A duration where there is room for one unit only: 75 → "1.3 min" */
export function brief(seconds: number | null | undefined): string {
  if (!known(seconds) || Math.abs(seconds) < 59.95) return duration(seconds);
  for (const [unit, size] of [['d', 86_400], ['h', 3_600], ['min', 60]] as const) {
    const scaled = seconds / size;
    if (Math.abs(scaled) >= 1 || unit === 'min') return `${scaled.toFixed(Math.abs(scaled) < 99.5 ? 1 : 0)} ${unit}`;
  }
  return NOTHING;
}

export function percent(share: number): string {
  if (share === 0) return '0 %';
  const hundredths = share * 100;
  if (hundredths < 0.01) return '< 0.01 %';
  return `${hundredths < 1 ? hundredths.toFixed(2) : hundredths < 99.95 ? hundredths.toFixed(1) : hundredths.toFixed(0)} %`;
}

export const millis = (time: Micros): number => time / 1000;

const two = (value: number): string => String(value).padStart(2, '0');

/** The time of day in the reader's zone, with the day if it is not today. */
export function clock(time: Micros | null | undefined): string {
  if (!known(time)) return NOTHING;
  const at = new Date(millis(time));
  const today = new Date();
  const hours = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === today.toDateString()) return hours;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${hours}`;
}

/** The same instant in UTC, whole: what to put into a query or a message to somebody elsewhere. */
export function utc(time: Micros | null | undefined): string {
  if (!known(time)) return NOTHING;
  return `${new Date(millis(time)).toISOString().replace('T', ' ').replace('Z', '')} UTC`;
}

export function ago(time: Micros | null | undefined, nowMillis: number): string {
  if (!known(time)) return NOTHING;
  const seconds = (nowMillis - millis(time)) / 1000;
  if (seconds < -1) return `in ${duration(Math.round(-seconds))}`;
  if (seconds < 1) return 'just now';
  // Whole seconds: a digit that changes each frame says nothing.
  return `${duration(seconds < 60 ? Math.round(seconds) : seconds).replace('.0 s', ' s').replace('.00 s', ' s')} ago`;
}

export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;
