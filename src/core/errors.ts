/** @file The one error type of the project: it names the place, what was expected, what was found and what to do next. */

/** What an error is about; the CLI turns `usage`, `config` and `input` into exit code 2, everything else into 1. */
export type ErrorKind = 'usage' | 'config' | 'input' | 'graph' | 'program' | 'engine' | 'internal';

/** The parts of an error message, each optional but `place`. */
export interface ErrorParts {
	/** Where: a file, a config key, a layer path, a device and instruction. */
	readonly place: string;
	readonly expected?: string;
	readonly found?: string;
	/** What to do next. */
	readonly hint?: string;
	readonly cause?: unknown;
}

/** An error a person can act on. `message` is complete by itself; `parts` keeps its pieces for `--json`. */
export class DiffusionPipeError extends Error {
	readonly kind: ErrorKind;
	readonly parts: ErrorParts;

	constructor(kind: ErrorKind, what: string, parts: ErrorParts) {
		super(formatError(what, parts), parts.cause === undefined ? undefined : { cause: parts.cause });
		this.name = 'DiffusionPipeError';
		this.kind = kind;
		this.parts = parts;
	}
}

function formatError(what: string, { place, expected, found, hint }: ErrorParts): string {
	const lines = [`${place}: ${what}`];
	if (expected !== undefined) lines.push(`  expected: ${expected}`);
	if (found !== undefined) lines.push(`  found: ${found}`);
	if (hint !== undefined) lines.push(`  try: ${hint}`);
	return lines.join('\n');
}

/** The name among `names` nearest to `wanted` by edit distance, or undefined when none is close. */
export function nearestName(wanted: string, names: Iterable<string>): string | undefined {
	let best: string | undefined;
	let bestDistance = Math.max(2, Math.floor(wanted.length / 3)) + 1;
	for (const name of names) {
		const distance = editDistance(wanted.toLowerCase(), name.toLowerCase());
		if (distance < bestDistance) {
			best = name;
			bestDistance = distance;
		}
	}
	return best;
}

function editDistance(a: string, b: string): number {
	let row = Array.from({ length: b.length + 1 }, (_, j) => j);
	for (let i = 1; i <= a.length; i++) {
		const next = [i];
		for (let j = 1; j <= b.length; j++) {
			const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
			next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
		}
		row = next;
	}
	return row[b.length] ?? 0;
}

/** Marks code the type checker proves unreachable; throws if it is reached all the same. */
export function unreachable(value: never, where: string): never {
	throw new DiffusionPipeError('internal', `unhandled case ${JSON.stringify(value)}`, { place: where });
}
