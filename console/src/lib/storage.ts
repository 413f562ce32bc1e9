/** What this browser remembers. A browser that refuses to remember (private mode) only forgets; nothing fails. */

export function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(`watershed.${key}`, JSON.stringify(value));
  } catch {
    // Full or forbidden: a preference is not worth a message.
  }
}

export function recall<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`watershed.${key}`);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}
