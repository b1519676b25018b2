/** @file One run of the program: command line in, exit code out. */
import { type Parsed, parseArguments } from './arguments.ts';
import type { Context, Outcome } from './command.ts';
import { commands as allCommands } from './commands/index.ts';
import { toJson } from './console.ts';
import { exitCodeOf, failureJson, failureText } from './failure.ts';
import { commandHelp, programHelp } from './help.ts';
import { interruptCode } from './interrupt.ts';
import { packageInfo } from './package-root.ts';
import { styleFor } from './style.ts';

/** Runs the command line `argv` (without node and script). Never throws: errors are shown, and make the exit code 1 or 2. */
export async function runProgram(argv: readonly string[], outer: Context, commands = allCommands): Promise<number> {
	// Asked for as a word anywhere, so that errors in the command line itself obey, too.
	const asked = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : argv.length);
	const context: Context = asked.includes('--no-color') ? { ...outer, env: { ...outer.env, FORCE_COLOR: '', NO_COLOR: '1' } } : outer;
	try {
		return await runParsed(parseArguments(argv, commands), context, commands);
	} catch (error) {
		const stopped = context.signal.aborted && error instanceof Error && error.name === 'AbortError';
		if (stopped) return interruptCode(context.signal.reason);
		if (asked.includes('--json')) context.stdout.write(`${toJson(failureJson(error))}\n`);
		context.stderr.write(failureText(error, { debug: asked.includes('--debug'), style: styleFor(context.stderr, context.env) }));
		return exitCodeOf(error);
	}
}

async function runParsed(parsed: Parsed, context: Context, commands: typeof allCommands): Promise<number> {
	const style = styleFor(context.stdout, context.env);
	switch (parsed.kind) {
		case 'version':
			context.stdout.write(`${packageInfo().version}\n`);
			return 0;
		case 'help':
			context.stdout.write(parsed.command ? commandHelp(parsed.command, style) : programHelp(commands, packageInfo().version, style));
			return 0;
		case 'run':
			return codeOf(await parsed.command.run(parsed.args, context), context.signal);
	}
}

function codeOf(outcome: Outcome, signal: AbortSignal): number {
	if (outcome === 'interrupted') return interruptCode(signal.reason);
	return outcome === 'done' ? 0 : 1;
}
