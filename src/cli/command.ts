/** @file What a command is: plain data with a function, so that it can be listed, explained and tested without a process. */

/** Where text goes: standard output or error, or a collector in a test. */
export interface Output {
	write(text: string): unknown;
	readonly isTTY?: boolean;
	/** Width of the terminal in characters. */
	readonly columns?: number;
}

/** Everything a command may touch of the process around it. */
export interface Context {
	/** For results: what a program reading us wants. */
	readonly stdout: Output;
	/** For progress, notes and errors: what a person wants. */
	readonly stderr: Output;
	/** Folder that relative paths start from. */
	readonly cwd: string;
	readonly env: Readonly<Record<string, string | undefined>>;
	/** True when a person looks at standard error. */
	readonly isTTY: boolean;
	/** Aborted by the first interrupt; its reason is the name of the signal. */
	readonly signal: AbortSignal;
	/** Said by a command that watches `signal`: the first interrupt then shows `text` instead of ending the process. */
	finishOnInterrupt(text: string): void;
}

/** What an option takes. The key it is listed under, in camel case, gives its flag: `outputDir` is `--output-dir`. */
export type OptionSpec = { readonly summary: string; readonly short?: string } & (
	| { readonly kind: 'flag' }
	/** Said as `--fill` or `--no-fill`; open when neither is. */
	| { readonly kind: 'switch' }
	| { readonly kind: 'text'; readonly value: string }
	/** May be given several times. */
	| { readonly kind: 'list'; readonly value: string }
	/** The value may be left out. */
	| { readonly kind: 'optional'; readonly value: string }
	| { readonly kind: 'number'; readonly value: string; readonly min: number }
	| { readonly kind: 'integer'; readonly value: string; readonly min: number }
);

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

interface ValueOf {
	flag: boolean;
	switch: boolean | undefined;
	text: string | undefined;
	list: readonly string[];
	optional: string | true | undefined;
	number: number | undefined;
	integer: number | undefined;
}

/** The values of options after parsing. */
export type OptionValues<O extends OptionSpecs> = { readonly [K in keyof O]: ValueOf[O[K]['kind']] };

/** Options every command has. */
export const globalOptions = {
	json: { kind: 'flag', summary: 'Write results as JSON to standard output' },
	quiet: { kind: 'flag', short: 'q', summary: 'Show no progress and no notes' },
	debug: { kind: 'flag', summary: 'Show where in the code an error arose' },
	help: { kind: 'flag', short: 'h', summary: 'Explain the command' },
} as const satisfies OptionSpecs;

export type GlobalValues = OptionValues<typeof globalOptions>;

/** What was given on the command line. */
export interface Args<O extends OptionSpecs = OptionSpecs> {
	readonly positional: readonly string[];
	readonly options: OptionValues<O> & GlobalValues;
}

/** How a command ended: exit code 0, 1, or 130/143 by the signal that interrupted it. */
export type Outcome = 'done' | 'failed' | 'interrupted';

export interface Command {
	readonly name: string;
	/** One line for the list of commands. */
	readonly summary: string;
	/** Positional arguments: `<required>` and `[optional]`. */
	readonly usage: string;
	readonly options: OptionSpecs;
	/** Command lines (without the program's name) and what they do; two at least. */
	readonly examples: readonly (readonly [line: string, meaning: string])[];
	/** Further lines of the command's help, such as names it knows. */
	details?(): readonly string[];
	run(args: Args, context: Context): Promise<Outcome>;
}

/** A command whose `run` sees the types of its own options. */
export function defineCommand<const O extends OptionSpecs>(
	command: Omit<Command, 'options' | 'run'> & { readonly options: O; run(args: Args<O>, context: Context): Promise<Outcome> },
): Command {
	// Parsing checks every value against `options`, which is what makes the narrower type true.
	return command as unknown as Command;
}

/** `outputDir` to `--output-dir`. */
export function flagOf(key: string): string {
	return `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
}
