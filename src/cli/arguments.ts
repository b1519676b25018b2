/** @file Command lines to checked values: which command, its arguments, its options, each error with the nearest name. */
import { cac } from 'cac';
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { type Args, type Command, flagOf, globalOptions, type OptionSpec, type OptionSpecs } from './command.ts';

/** What a command line asks for. */
export type Parsed =
	| { readonly kind: 'run'; readonly command: Command; readonly args: Args }
	| { readonly kind: 'help'; readonly command: Command | undefined }
	| { readonly kind: 'version' };

/** Options that stand before or without a command. */
export const programOptions = {
	...globalOptions,
	version: { kind: 'flag', short: 'V', summary: 'Print the version' },
} as const satisfies OptionSpecs;

/**
 * Reads the command line `argv` (without node and script).
 * @throws DiffusionPipeError of kind 'usage' for an unknown command or option, or an argument that is missing, superfluous or malformed
 */
export function parseArguments(argv: readonly string[], commands: readonly Command[]): Parsed {
	const cli = cac('diffusionpipe');
	const declare = (target: { option(name: string, summary: string): unknown }, specs: OptionSpecs) => {
		for (const [key, spec] of Object.entries(specs)) target.option(rawName(key, spec), spec.summary);
	};
	declare(cli, programOptions);
	// Colour is decided before anything is parsed, so that errors in the command line are coloured too.
	cli.option('--no-color', 'Use no colour');
	for (const command of commands) declare(cli.command(`${command.name} ${command.usage}`, command.summary), command.options);
	const { args, options } = cli.parse(['node', 'diffusionpipe', ...argv], { run: false });
	if (options.version === true) return { kind: 'version' };
	const matched = cli.matchedCommand;
	const command = commands.find((c) => c.name === matched?.name);
	if (!matched || !command) {
		const given = args[0];
		if (given === undefined) {
			checkKnown(options, programOptions, undefined);
			return { kind: 'help', command: undefined };
		}
		throw unknownCommand(String(given), commands);
	}
	if (options.help === true) return { kind: 'help', command };
	const specs = { ...command.options, ...globalOptions };
	checkKnown(options, specs, command);
	const positional = [...args.map(String), ...((options['--'] as string[] | undefined) ?? [])];
	checkPositional(positional, matched.args, command);
	const values = Object.fromEntries(
		Object.entries(specs).map(([key, spec]) => [key, readOption(key, spec, options[key], argv, command.name)]),
	);
	return { kind: 'run', command, args: { positional, options: values } as unknown as Args };
}

function rawName(key: string, spec: OptionSpec): string {
	const flags = `${spec.short ? `-${spec.short}, ` : ''}${flagOf(key)}`;
	if (spec.kind === 'flag' || spec.kind === 'switch') return flags;
	return spec.kind === 'optional' ? `${flags} [${spec.value}]` : `${flags} <${spec.value}>`;
}

function unknownCommand(given: string, commands: readonly Command[]): DiffusionPipeError {
	const names = commands.map((c) => c.name);
	const near = nearestName(given, names);
	return new DiffusionPipeError('usage', 'there is no such command', {
		place: given,
		expected: names.join(', '),
		hint: near ? `diffusionpipe ${near}` : 'diffusionpipe --help',
	});
}

function checkKnown(options: Readonly<Record<string, unknown>>, specs: OptionSpecs, command: Command | undefined): void {
	const shorts = Object.values(specs).flatMap((s) => s.short ?? []);
	for (const [key, value] of Object.entries(options)) {
		if (key === '--' || key === 'color' || Object.hasOwn(specs, key) || shorts.includes(key)) continue;
		const flag = key.length === 1 ? `-${key}` : flagOf(key);
		const known = Object.keys(specs).map(flagOf);
		const near = nearestName(flag, known);
		// `--train.lr 1e-3` is how some trainers spell it, and parses as a table.
		const dotted = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value)[0] : undefined;
		const hint =
			dotted !== undefined && Object.hasOwn(specs, 'set')
				? `--set ${key}.${dotted}=VALUE`
				: near
					? `did you mean ${near}?`
					: `diffusionpipe ${command ? `${command.name} ` : ''}--help`;
		throw new DiffusionPipeError('usage', 'there is no such option', {
			place: dotted === undefined ? flag : `${flag}.${dotted}`,
			expected: known.join(', '),
			hint,
		});
	}
}

function checkPositional(
	given: readonly string[],
	wanted: readonly { required: boolean; value: string; variadic: boolean }[],
	command: Command,
): void {
	const usage = { place: `diffusionpipe ${command.name}`, expected: command.usage || 'no arguments' };
	const hint = `diffusionpipe ${command.name} --help`;
	const missing = wanted.find((arg, i) => arg.required && given[i] === undefined);
	if (missing) throw new DiffusionPipeError('usage', `<${missing.value}> is missing`, { ...usage, hint });
	if (given.length > wanted.length) {
		throw new DiffusionPipeError('usage', 'there is an argument too many', { ...usage, found: given.slice(wanted.length).join(' '), hint });
	}
}

/** The value of one option, as its kind wants it. `given` is what cac made of it. */
function readOption(key: string, spec: OptionSpec, given: unknown, argv: readonly string[], command: string): unknown {
	const flag = flagOf(key);
	const fail = (what: string, expected: string, found?: string): never => {
		throw new DiffusionPipeError('usage', what, {
			place: flag,
			expected,
			...(found === undefined ? {} : { found }),
			hint: `diffusionpipe ${command} --help`,
		});
	};
	const all: readonly unknown[] = given === undefined ? [] : Array.isArray(given) ? given : [given];
	if (spec.kind === 'flag') return all.at(-1) === true;
	if (spec.kind === 'switch') return given === undefined ? undefined : all.at(-1) === true;
	if (spec.kind === 'list') {
		return all.map((v) =>
			typeof v === 'string' || typeof v === 'number' ? rawText(v, flag, argv) : fail('has no value', `${flag} <${spec.value}>`),
		);
	}
	if (given === undefined) return undefined;
	if (all.length > 1) return fail('is given more than once', 'one value', all.join(', '));
	if (typeof given === 'boolean' || given === '') {
		if (spec.kind === 'optional' && given === true) return true;
		return fail('has no value', `${flag} <${spec.value}>${spec.kind === 'text' ? '' : ` (a negative number: ${flag}=-1)`}`);
	}
	const text = rawText(given, flag, argv);
	if (spec.kind === 'text' || spec.kind === 'optional') return text;
	const number = Number(text);
	const whole = spec.kind === 'integer';
	const fits = Number.isFinite(number) && number >= spec.min && (!whole || Number.isSafeInteger(number));
	return fits ? number : fail('has a wrong value', `a ${whole ? 'whole ' : ''}number of at least ${spec.min}`, text);
}

/** The text a value was given as: cac turns what looks like a number into one, and a folder may be called `007`. */
function rawText(value: unknown, flag: string, argv: readonly string[]): string {
	if (typeof value !== 'number') return String(value);
	const candidates = argv.flatMap((arg, i) =>
		arg === flag ? [argv[i + 1] ?? ''] : arg.startsWith(`${flag}=`) ? [arg.slice(flag.length + 1)] : [],
	);
	return candidates.find((text) => text !== '' && Number(text) === value) ?? String(value);
}
