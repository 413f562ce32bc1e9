/**
 * The keyboard: single keys and `g x` for views. Keys never act while somebody types, and never with a modifier, which
 * belongs to the browser.
 */

type Act = () => void;

const SEQUENCE_MS = 1200;
const bindings = new Map<string, Act>();
let pending: { key: string; at: number } | null = null;

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || target.matches('textarea, select, input:not([type=checkbox]):not([type=radio])');
}

addEventListener('keydown', (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const prefix = pending && performance.now() - pending.at < SEQUENCE_MS ? `${pending.key} ` : '';
  pending = null;
  const act = bindings.get(prefix + event.key);
  if (act) {
    event.preventDefault();
    act();
  } else if (!prefix && event.key === 'g' && document.querySelector('dialog[open]') === null) {
    pending = { key: 'g', at: performance.now() };
  }
});

/** Binds keys until the returned function is called: `{ 'g o': …, '/': … }`. */
export function bind(keys: Record<string, Act>): () => void {
  for (const [key, act] of Object.entries(keys)) bindings.set(key, act);
  return () => {
    for (const [key, act] of Object.entries(keys)) if (bindings.get(key) === act) bindings.delete(key);
  };
}

/** `/` goes to the view's search field, if it has one. */
export function focusSearch(): void {
  const field = document.querySelector<HTMLInputElement>('[data-search]');
  field?.focus();
  field?.select?.();
}
