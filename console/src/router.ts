/**
 * Where one is: `#/quarantine?reason=late`. In the fragment, so that a link can be sent to a colleague and the server
 * needs to know no page but one.
 */
import { signal } from '@preact/signals';

export interface Route {
  view: string;
  /** What follows the view: `#/tables/clean` → "clean". */
  rest: string;
  query: Record<string, string>;
}

function parse(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [view = '', ...rest] = path.split('/').map(decodeURIComponent);
  return { view: view || 'overview', rest: rest.join('/'), query: Object.fromEntries(new URLSearchParams(search)) };
}

export const route = signal<Route>(parse(location.hash));

addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

export function href(view: string, query: Record<string, string | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value) search.set(key, value);
  const text = search.toString();
  return `#/${view.split('/').map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

export function go(view: string, query: Record<string, string | undefined> = {}): void {
  location.hash = href(view, query);
}

/** Changes what is looked at within a view, without a step in the browser's history for each key typed. */
export function refine(query: Record<string, string | undefined>): void {
  const now = route.value;
  const view = now.rest ? `${now.view}/${now.rest}` : now.view;
  history.replaceState(null, '', href(view, { ...now.query, ...query }));
  route.value = parse(location.hash);
}
