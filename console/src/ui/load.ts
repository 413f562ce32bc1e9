import { useEffect, useRef, useState } from 'preact/hooks';

export interface Loaded<T> {
  value: T | null;
  error: Error | null;
  loading: boolean;
  reload: () => void;
}

/**
 * Asks for something, again whenever `deps` change and every `everyMillis`. Keeps showing the last answer while the next
 * one is on its way, so that nothing flickers; a failed repeat is reported beside the old value.
 */
export function useLoad<T>(ask: (signal: AbortSignal) => Promise<T>, deps: unknown[], everyMillis?: number): Loaded<T> {
  const [state, setState] = useState<{ value: T | null; error: Error | null; loading: boolean }>({
    value: null, error: null, loading: true,
  });
  const [round, setRound] = useState(0);
  const asking = useRef(ask);
  asking.current = ask;

  useEffect(() => {
    const control = new AbortController();
    setState((old) => ({ ...old, loading: true }));
    asking.current(control.signal).then(
      (value) => !control.signal.aborted && setState({ value, error: null, loading: false }),
      (error: Error) => !control.signal.aborted && setState((old) => ({ ...old, error, loading: false })),
    );
    return () => control.abort();
  }, [...deps, round]);

  useEffect(() => {
    if (!everyMillis) return undefined;
    const timer = setInterval(() => {
      // A page in the background asks for nothing.
      if (document.visibilityState === 'visible') setRound((n) => n + 1);
    }, everyMillis);
    return () => clearInterval(timer);
  }, [everyMillis]);

  return { ...state, reload: () => setRound((n) => n + 1) };
}

/** A value that follows another one after a pause: what somebody types, once they stop. */
export function useSettled<T>(value: T, millis: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), millis);
    return () => clearTimeout(timer);
  }, [value, millis]);
  return settled;
}
