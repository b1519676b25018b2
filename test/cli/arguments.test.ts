/** @file Command lines: values by kind, and every way to get one wrong. */
import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../src/cli/arguments.ts';
import { type Args, defineCommand } from '../../src/cli/command.ts';
import { DiffusionPipeError } from '../../src/core/errors.ts';

const options = {
	steps: { kind: 'integer', value: 'n', min: 1, summary: '' },
	guidanceScale: { kind: 'number', value: 'x', min: 0, summary: '' },
	output: { kind: 'text', value: 'file', summary: '' },
	set: { kind: 'list', value: 'key=value', summary: '' },
	resume: { kind: 'optional', value: 'checkpoint', summary: '' },
	dryRun: { kind: 'flag', summary: '' },
	fill: { kind: 'switch', summary: '' },
} as const;

const draw = defineCommand({
	name: 'draw',
	summary: 'Draws',
	usage: '<folder> [file]',
	options,
	examples: [],
	run: async () => 'done',
});
const list = defineCommand({ name: 'list', summary: 'Lists', usage: '', options: {}, examples: [], run: async () => 'done' });
const commands = [draw, list];

function parsed(...argv: string[]): Args<typeof options> {
	const result = parseArguments(argv, commands);
	if (result.kind !== 'run') throw new Error(`parsed as ${result.kind}`);
	return result.args as unknown as Args<typeof options>;
}

function failure(...argv: string[]): DiffusionPipeError {
	try {
		parseArguments(argv, commands);
	} catch (error) {
		if (error instanceof DiffusionPipeError) return error;
		throw error;
	}
	throw new Error('parsed without an error');
}

describe('switches', () => {
	it.each([
		[[], undefined],
		[['--fill'], true],
		[['--no-fill'], false],
		[['--fill', '--no-fill'], false],
		[['--no-fill', '--fill'], true],
	])('%j is %j, and takes no value', (argv, value) => {
		const { positional, options } = parsed('draw', ...argv, 'runs/a');
		expect(options.fill).toBe(value);
		expect(positional).toEqual(['runs/a']);
	});

	it('of other names are not known', () => {
		expect(failure('draw', 'runs/a', '--no-fil').message).toContain('did you mean --fill?');
	});
});

describe('values of options', () => {
	it('gives each kind its type, and what is absent its empty value', () => {
		const { positional, options } = parsed(
			'draw',
			'runs/a',
			'--steps',
			'12',
			'--guidance-scale=2.5',
			'--set',
			'a=1',
			'--set=b=2',
			'--dry-run',
		);
		expect(positional).toEqual(['runs/a']);
		expect(options).toEqual({
			steps: 12,
			guidanceScale: 2.5,
			output: undefined,
			set: ['a=1', 'b=2'],
			resume: undefined,
			dryRun: true,
			json: false,
			quiet: false,
			debug: false,
			help: false,
		});
	});

	it('takes an option with its value left out, and with it', () => {
		expect(parsed('draw', 'a', '--resume').options.resume).toBe(true);
		expect(parsed('draw', 'a', '--resume', '--json').options.resume).toBe(true);
		expect(parsed('draw', 'a', '--resume', 'step-3').options.resume).toBe('step-3');
	});

	it.each([
		['007', ['--output', '007']],
		['1e3', ['--output=1e3']],
		['0x10', ['--output', '0x10']],
	])('keeps a text that looks like a number as it was written: %s', (text, argv) => {
		expect(parsed('draw', 'a', ...argv).options.output).toBe(text);
	});

	it('takes general options before the command and in short', () => {
		expect(parsed('--json', '-q', 'draw', 'a').options).toMatchObject({ json: true, quiet: true });
	});

	it('takes what follows -- as arguments', () => {
		expect(parsed('draw', '--', '--odd-folder').positional).toEqual(['--odd-folder']);
	});
});

describe('wrong command lines', () => {
	it.each([
		[['drow', 'a'], 'drow', 'diffusionpipe draw'],
		[['draw', 'a', '--step', '3'], '--step', 'did you mean --steps?'],
		[['draw', 'a', '--guidence-scale', '3'], '--guidence-scale', 'did you mean --guidance-scale?'],
		[['draw', 'a', '--zzzzzzzz'], '--zzzzzzzz', 'diffusionpipe draw --help'],
		[['draw', 'a', '-x'], '-x', 'diffusionpipe draw --help'],
		[['draw', 'a', '--train.lr', '3'], '--train.lr', '--set train.lr=VALUE'],
		[['list', '--steps', '3'], '--steps', undefined],
	] as const)('%j names the nearest', (argv, place, hint) => {
		const { kind, parts } = failure(...argv);
		expect(kind).toBe('usage');
		expect(parts.place).toBe(place);
		if (hint !== undefined) expect(parts.hint).toBe(hint);
	});

	it.each([
		[['draw'], '<folder> is missing'],
		[['draw', 'a', 'b', 'c'], 'an argument too many'],
		[['list', 'a'], 'an argument too many'],
		[['draw', 'a', '--steps', '0'], 'at least 1'],
		[['draw', 'a', '--steps', '1.5'], 'whole number'],
		[['draw', 'a', '--steps', 'many'], 'found: many'],
		[['draw', 'a', '--guidance-scale', '-1'], '--guidance-scale'],
		[['draw', 'a', '--guidance-scale=-1'], 'at least 0'],
		[['draw', 'a', '--guidance-scale', 'Infinity'], 'a number'],
		[['draw', 'a', '--output'], 'has no value'],
		[['draw', 'a', '--set'], 'has no value'],
		[['draw', 'a', '--steps', '1', '--steps', '2'], 'more than once'],
	])('%j: %s', (argv, message) => {
		const error = failure(...argv);
		expect(error.kind).toBe('usage');
		expect(error.message).toContain(message);
	});
});

describe('help and version', () => {
	it('are found before anything is missing', () => {
		expect(parseArguments([], commands)).toEqual({ kind: 'help', command: undefined });
		expect(parseArguments(['--help'], commands)).toEqual({ kind: 'help', command: undefined });
		expect(parseArguments(['draw', '-h'], commands)).toEqual({ kind: 'help', command: draw });
		expect(parseArguments(['-V'], commands)).toEqual({ kind: 'version' });
	});
});
