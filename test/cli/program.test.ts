/** @file The program as a whole: exit codes, errors, help and colour. */
import { describe, expect, it } from 'vitest';
import { type Command, defineCommand } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/commands/index.ts';
import { packageInfo } from '../../src/cli/package-root.ts';
import { runProgram } from '../../src/cli/program.ts';
import { wantsColour } from '../../src/cli/style.ts';
import { DiffusionPipeError, type ErrorKind } from '../../src/core/errors.ts';
import { fakeContext, runCli } from './context.ts';

const command = (run: Command['run']): readonly Command[] => [
	defineCommand({ name: 'go', summary: 'Goes', usage: '', options: {}, examples: [], run }),
];

describe('exit codes', () => {
	it.each([
		['done', 0],
		['failed', 1],
	] as const)('%s is %d', async (outcome, code) => {
		expect(
			await runProgram(
				['go'],
				fakeContext(),
				command(async () => outcome),
			),
		).toBe(code);
	});

	it.each([
		['SIGINT', 130],
		['SIGTERM', 143],
	] as const)('interrupted by %s is %d', async (signal, code) => {
		const context = fakeContext();
		const run = command(async () => {
			context.interrupt(signal);
			return 'interrupted';
		});
		expect(await runProgram(['go'], context, run)).toBe(code);
	});

	it.each<[ErrorKind, number]>([
		['usage', 2],
		['config', 2],
		['input', 2],
		['graph', 1],
		['program', 1],
		['engine', 1],
		['internal', 1],
	])('an error of kind %s is %d', async (kind, code) => {
		const context = fakeContext();
		const fail = command(async () => {
			throw new DiffusionPipeError(kind, 'went wrong', { place: 'here', hint: 'this' });
		});
		expect(await runProgram(['go'], context, fail)).toBe(code);
		expect(context.err()).toBe('error: here: went wrong\n  try: this\n');
		expect(context.out()).toBe('');
	});

	it('an abort after an interrupt is no failure', async () => {
		const context = fakeContext();
		const run = command(async () => {
			context.interrupt('SIGINT');
			throw new DOMException('stopped', 'AbortError');
		});
		expect(await runProgram(['go'], context, run)).toBe(130);
		expect(context.err()).toBe('');
	});

	it('a real error after an interrupt is still reported', async () => {
		const context = fakeContext();
		const run = command(async () => {
			context.interrupt('SIGINT');
			throw new DiffusionPipeError('engine', 'the disk is full', { place: 'runs/a' });
		});
		expect(await runProgram(['go'], context, run)).toBe(1);
		expect(context.err()).toContain('the disk is full');
	});
});

describe('errors', () => {
	const broken = command(async () => {
		throw new DiffusionPipeError('engine', 'went wrong', { place: 'here', cause: new TypeError('deep below') });
	});

	it('show stacks and causes with --debug only', async () => {
		const plain = fakeContext();
		await runProgram(['go'], plain, broken);
		expect(plain.err()).not.toContain('program.test.ts');
		const debug = fakeContext();
		await runProgram(['go', '--debug'], debug, broken);
		expect(debug.err()).toContain('program.test.ts');
		expect(debug.err()).toContain('caused by TypeError: deep below');
	});

	it('are one JSON document with --json', async () => {
		const context = fakeContext();
		expect(await runProgram(['go', '--json'], context, broken)).toBe(1);
		expect(JSON.parse(context.out())).toEqual({ error: { kind: 'engine', message: 'here: went wrong', place: 'here' } });
		expect(context.err()).toContain('error: here: went wrong');
	});

	it('of the command line are JSON, too', async () => {
		const { code, out } = await runCli(['frob', '--json']);
		expect(code).toBe(2);
		expect(JSON.parse(out).error).toMatchObject({ kind: 'usage', place: 'frob' });
	});

	it('nobody foresaw are 1 and say how to report them', async () => {
		const context = fakeContext();
		const run = command(async () => {
			throw new TypeError('x is not a function');
		});
		expect(await runProgram(['go'], context, run)).toBe(1);
		expect(context.err()).toContain('unexpected failure: x is not a function');
		expect(context.err()).toContain('--debug');
	});
});

describe('help', () => {
	it('lists the commands and says where to start', async () => {
		const { code, out, err } = await runCli(['--help']);
		expect(code).toBe(0);
		expect(err).toBe('');
		for (const { name, summary } of commands) expect(out).toMatch(new RegExp(`^  ${name} .*${summary}$`, 'm'));
		expect(await runCli([])).toEqual({ code, out, err });
	});

	it.each(commands.map((c) => c.name))('of %s has its options and two examples at least', async (name) => {
		const { code, out } = await runCli([name, '--help']);
		expect(code).toBe(0);
		const found = commands.find((c) => c.name === name)!;
		for (const key of Object.keys(found.options)) expect(out).toContain(`--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`);
		const examples = out
			.split('Examples\n')[1]!
			.split('\n')
			.filter((line) => line.startsWith('  diffusionpipe '));
		expect(examples.length).toBeGreaterThanOrEqual(2);
		for (const line of examples) expect(line).toMatch(new RegExp(`^  diffusionpipe ${name}\\b`));
	});

	it('prints the version', async () => {
		expect(await runCli(['--version'])).toEqual({ code: 0, out: `${packageInfo().version}\n`, err: '' });
	});
});

describe('colour', () => {
	const terminal = { write: () => {}, isTTY: true };
	const pipe = { write: () => {} };
	it.each([
		['a terminal', terminal, {}, true],
		['a pipe', pipe, {}, false],
		['NO_COLOR', terminal, { NO_COLOR: '1' }, false],
		['an empty NO_COLOR', terminal, { NO_COLOR: '' }, true],
		['a dumb terminal', terminal, { TERM: 'dumb' }, false],
		['FORCE_COLOR on a pipe', pipe, { FORCE_COLOR: '1' }, true],
		['FORCE_COLOR over NO_COLOR', pipe, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
		['FORCE_COLOR=0', terminal, { FORCE_COLOR: '0' }, false],
	])('%s', (_, output, env, colour) => {
		expect(wantsColour(output, env)).toBe(colour);
	});

	it('is left out with --no-color', async () => {
		const env = { FORCE_COLOR: '1' };
		expect((await runCli(['frob'], { env })).err).toContain('\u001b[31m');
		expect((await runCli(['frob', '--no-color'], { env })).err).not.toContain('\u001b[');
	});
});
