/** @file How a command speaks: results to standard output (text or JSON), notes to standard error. */
import type { Context, GlobalValues } from './command.ts';
import { type Style, styleFor } from './style.ts';

/** The two channels of a command, with what the user asked of them. */
export interface Console {
	/** A note for people; nothing when quiet. */
	note(line: string): void;
	/** Result lines for people; nothing when JSON was asked for. */
	print(...lines: readonly string[]): void;
	/** A result for programs, one JSON value on a line; nothing unless JSON was asked for. */
	json(value: unknown): void;
	/** For `note`. */
	readonly noteStyle: Style;
	/** For `print`. */
	readonly printStyle: Style;
}

/** Where a command writes: results to stdout, notes to stderr, as the global options say. */
export function createConsole({ json, quiet }: Pick<GlobalValues, 'json' | 'quiet'>, { stdout, stderr, env }: Context): Console {
	return {
		note(line) {
			if (!quiet) stderr.write(`${line}\n`);
		},
		print(...lines) {
			if (!json) stdout.write(lines.map((line) => `${line}\n`).join(''));
		},
		json(value) {
			if (json) stdout.write(`${toJson(value)}\n`);
		},
		noteStyle: styleFor(stderr, env),
		printStyle: styleFor(stdout, env),
	};
}

/** One line of JSON. It has no NaN or infinity and would write null: such numbers become their names. */
export function toJson(value: unknown): string {
	return JSON.stringify(value, (_, v: unknown) => (typeof v === 'number' && !Number.isFinite(v) ? String(v) : v));
}
