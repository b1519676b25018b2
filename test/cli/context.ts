/** @file A process for commands that is none: what they write is collected, and nothing outside is touched. */
import { tmpdir } from 'node:os';
import type { Context } from '../../src/cli/command.ts';
import { runProgram } from '../../src/cli/program.ts';

export interface FakeContext extends Context {
	/** Written so far. */
	out(): string;
	err(): string;
	/** Message given to `finishOnInterrupt`. */
	finishing(): string | undefined;
	/** Sends an interrupt. */
	interrupt(name: 'SIGINT' | 'SIGTERM'): void;
}

export function fakeContext(change: Partial<Context> = {}): FakeContext {
	const out: string[] = [];
	const err: string[] = [];
	const controller = new AbortController();
	let finishing: string | undefined;
	return {
		stdout: { write: (text) => out.push(text) },
		stderr: { write: (text) => err.push(text) },
		cwd: tmpdir(),
		env: {},
		isTTY: false,
		signal: controller.signal,
		finishOnInterrupt(text) {
			finishing = text;
		},
		...change,
		out: () => out.join(''),
		err: () => err.join(''),
		finishing: () => finishing,
		interrupt: (name) => controller.abort(name),
	};
}

/** Runs a command line in a fresh context. */
export async function runCli(argv: readonly string[], change: Partial<Context> = {}): Promise<{ code: number; out: string; err: string }> {
	const context = fakeContext(change);
	const code = await runProgram(argv, context);
	return { code, out: context.out(), err: context.err() };
}
