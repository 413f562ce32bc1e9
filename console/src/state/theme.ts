import { computed, effect, signal } from '@preact/signals';
import { recall, remember } from '../lib/storage';

export type Theme = 'light' | 'dark';

const system = matchMedia('(prefers-color-scheme: dark)');
const systemTheme = signal<Theme>(system.matches ? 'dark' : 'light');
system.addEventListener('change', () => {
  systemTheme.value = system.matches ? 'dark' : 'light';
});

/** null: as the system has it. */
const chosen = signal<Theme | null>(recall<Theme | null>('theme', null));

export const theme = computed<Theme>(() => chosen.value ?? systemTheme.value);

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

export function toggleTheme(): void {
  const next: Theme = theme.value === 'dark' ? 'light' : 'dark';
  // Back to what the system says means following it again.
  chosen.value = next === systemTheme.value ? null : next;
  remember('theme', chosen.value);
}

/** A colour of the style sheet, for canvases, which cannot read it themselves. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
