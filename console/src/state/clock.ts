import { signal } from '@preact/signals';

/** Milliseconds, once a second: for "12 s ago". */
export const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now();
}, 1000);
