/** @file Help: the list of commands, and one command with its options and examples. */
import { programOptions } from './arguments.ts';
import { type Command, flagOf, globalOptions, type OptionSpecs } from './command.ts';
import { formatTable } from './format.ts';
import type { Style } from './style.ts';

/** What `diffusionpipe --help` prints. */
export function programHelp(commands: readonly Command[], version: string, style: Style): string {
	return sections([
		[`${style.bold('diffusionpipe')} ${version}: plan, pipeline, train and sample diffusion models on several devices`],
		[style.bold('Usage'), '  diffusionpipe <command> [options]'],
		[style.bold('Commands'), ...formatTable(commands.map((c) => [`  ${c.name} ${c.usage}`.trimEnd(), c.summary]))],
		[style.bold('Options'), ...optionLines(programOptions, ['      --no-color', 'Use no colour, as with NO_COLOR=1 in the environment'])],
		[style.bold('Start with'), '  diffusionpipe doctor', '  diffusionpipe train mnist'],
		["'diffusionpipe <command> --help' explains a command."],
	]);
}

/** What `diffusionpipe <command> --help` prints. */
export function commandHelp(command: Command, style: Style): string {
	const usage = ['diffusionpipe', command.name, command.usage, '[options]'].filter((part) => part !== '').join(' ');
	const options = Object.keys(command.options).length > 0 ? [[style.bold('Options'), ...optionLines(command.options)]] : [];
	return sections([
		[command.summary],
		[style.bold('Usage'), `  ${usage}`, ...(command.details?.() ?? [])],
		...options,
		[style.bold('General options'), ...optionLines(globalOptions)],
		[style.bold('Examples'), ...command.examples.flatMap(([line, meaning]) => [`  diffusionpipe ${line}`, style.dim(`      ${meaning}`)])],
	]);
}

/** A line per option; `more` are rows to add. */
function optionLines(specs: OptionSpecs, ...more: readonly (readonly string[])[]): string[] {
	return formatTable([
		...Object.entries(specs).map(([key, spec]) => {
			if (spec.kind === 'switch') return [`      ${flagOf(key)}, ${flagOf(key).replace('--', '--no-')}`, spec.summary];
			const value = spec.kind === 'flag' ? '' : spec.kind === 'optional' ? ` [${spec.value}]` : ` <${spec.value}>`;
			return [`  ${spec.short ? `-${spec.short}, ` : '    '}${flagOf(key)}${value}`, spec.summary];
		}),
		...more,
	]);
}

function sections(parts: readonly (readonly string[])[]): string {
	return `${parts.map((lines) => lines.join('\n')).join('\n\n')}\n`;
}
