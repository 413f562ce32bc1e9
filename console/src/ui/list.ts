/** Arrow keys in lists and tables: the focus walks over the elements with `data-item` in the given container. */
export function walkWithArrows(event: KeyboardEvent): void {
  const step: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 };
  const to = event.key in step || event.key === 'Home' || event.key === 'End';
  if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target as HTMLElement;
  if (target.matches('input:not([type=checkbox]), textarea, select')) return;
  const items = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>('[data-item]')];
  if (items.length === 0) return;
  const here = items.findIndex((item) => item === target || item.contains(target));
  const next =
    event.key === 'Home' ? 0
    : event.key === 'End' ? items.length - 1
    : Math.min(items.length - 1, Math.max(0, here + (step[event.key] ?? 0)));
  event.preventDefault();
  items[next]?.focus();
  items[next]?.scrollIntoView({ block: 'nearest' });
}
