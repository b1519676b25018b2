/** @file What the user sees of an error, and the exit code it gives. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Style } from './style.ts';

/** 2 when the user can mend it (command line, config, files given), 1 otherwise. */
export function exitCodeOf(error: unknown): 1 | 2 {
	if (!(error instanceof DiffusionPipeError)) return 1;
	return error.kind === 'usage' || error.kind === 'config' || error.kind === 'input' ? 2 : 1;
}

/** The error for people; with `debug`, the stacks of it and of its causes. */
export function failureText(error: unknown, { debug, style }: { readonly debug: boolean; readonly style: Style }): string {
	const known = error instanceof DiffusionPipeError;
	const message = error instanceof Error ? error.message : String(error);
	const lines = [`${style.red('error:')} ${known ? message : `unexpected failure: ${message}`}`];
	if (debug) lines.push(...stacks(error));
	else if (!known) lines.push('  try: the same command with --debug, and report what it shows');
	return `${lines.join('\n')}\n`;
}

function stacks(error: unknown): string[] {
	const lines: string[] = [];
	for (let e: unknown = error; e instanceof Error; e = e.cause) {
		lines.push(`${e === error ? '' : 'caused by '}${e.stack ?? e.message}`);
	}
	return lines;
}

/** The error for programs. */
export function failureJson(error: unknown): { readonly error: Readonly<Record<string, unknown>> } {
	if (!(error instanceof DiffusionPipeError))
		return { error: { kind: 'internal', message: error instanceof Error ? error.message : String(error) } };
	const { place, expected, found, hint } = error.parts;
	return { error: { kind: error.kind, message: error.message, place, expected, found, hint } };
}
