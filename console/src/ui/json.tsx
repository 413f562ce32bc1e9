/** Text pretty-printed and coloured if it is JSON, as it is if not. */
import type { ComponentChildren } from 'preact';

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;

/**
 * Indents JSON without parsing numbers: a number beyond 2^53 must be shown as it came, not as a double.
 * Returns null if the text is no JSON.
 */
export function pretty(text: string): string | null {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let out = '';
  let depth = 0;
  const newline = (): string => `\n${'  '.repeat(depth)}`;
  for (const [token] of text.matchAll(/"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === '{' || token === '[') {
      depth++;
      out += token + newline();
    } else if (token === '}' || token === ']') {
      depth--;
      out = /[{[]\s*$/.test(out) ? out.trimEnd() + token : out + newline() + token;
    } else if (token === ',') out += `,${newline()}`;
    else if (token === ':') out += ': ';
    else out += token;
  }
  return out;
}

export function Json({ text }: { text: string }) {
  const shown = pretty(text);
  if (shown === null) return <pre class="raw">{text}</pre>;
  const parts: ComponentChildren[] = [];
  let at = 0;
  for (const match of shown.matchAll(TOKEN)) {
    if (match.index > at) parts.push(shown.slice(at, match.index));
    const [whole, string, colon, word] = match;
    const kind = string ? (colon ? 'key' : 'string') : word ? 'word' : 'number';
    parts.push(<span class={`tok-${kind}`}>{string ?? whole}</span>, colon ?? '');
    at = match.index + whole.length;
  }
  parts.push(shown.slice(at));
  return <pre class="raw">{parts}</pre>;
}

/** Bytes that are no text: offsets, hexadecimal, and what is printable of them. */
export function Hex({ base64 }: { base64: string }) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const slice = [...bytes.slice(at, at + 16)];
    const hex = slice.map((b) => b.toString(16).padStart(2, '0')).join(' ').padEnd(47);
    const text = slice.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : '·')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex}  ${text}`);
  }
  return <pre class="raw">{lines.join('\n')}</pre>;
}
