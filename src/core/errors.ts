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
	/** For callers that can do something about it. `memory`: a device has too little for what is asked of it. */
	readonly reason?: 'memory';
	readonly cause?: unknown;
}

/**
 * An error a person can act on. `message` is complete by itself; `kind`, `what` and `parts` are what it was made of, for `--json` and for making it
 * again in another thread.
 */
export class DiffusionPipeError extends Error {
	readonly kind: ErrorKind;
	/** What is wrong, without the place. */
	readonly what: string;
	readonly parts: ErrorParts;

	constructor(kind: ErrorKind, what: string, parts: ErrorParts) {
		super(formatError(what, parts), parts.cause === undefined ? undefined : { cause: parts.cause });
		this.name = 'DiffusionPipeError';
		this.kind = kind;
		this.what = what;
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

/**
 * The name among `names` nearest to `wanted` by edit distance (letter case aside), the first of them at a tie, or undefined when none is close. A third
 * of the letters may differ, in names of five letters and more always two; in a name of one letter none, since any other would do as well.
 */
export function nearestName(wanted: string, names: Iterable<string>): string | undefined {
	let best: string | undefined;
	const { length } = wanted;
	let bestDistance = 1 + (length < 5 ? Math.min(length - 1, 1) : Math.max(2, Math.floor(length / 3)));
	for (const name of names) {
		const distance = editDistance(wanted.toLowerCase(), name.toLowerCase());
		if (distance < bestDistance) {
			best = name;
			bestDistance = distance;
		}
	}
	return best;
}

/** Letters to add, drop, change or exchange with their neighbour (optimal string alignment). */
function editDistance(a: string, b: string): number {
	let before: number[] = [];
	let row = Array.from({ length: b.length + 1 }, (_, j) => j);
	for (let i = 1; i <= a.length; i++) {
		const next = [i];
		for (let j = 1; j <= b.length; j++) {
			const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
			const exchanged = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
			next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1, exchanged ? before[j - 2]! + 1 : Number.POSITIVE_INFINITY));
		}
		before = row;
		row = next;
	}
	return row[b.length]!;
}

/** Marks code the type checker proves unreachable; throws if it is reached all the same. */
export function unreachable(value: never, where: string): never {
	throw new DiffusionPipeError('internal', `unhandled case ${JSON.stringify(value)}`, { place: where });
}
