/** @file Colour where a person looks, and none where a program reads. */
import { styleText } from 'node:util';
import type { Output } from './command.ts';

/** Marks a piece of text. */
export type Style = Readonly<Record<'bold' | 'dim' | 'green' | 'yellow' | 'red', (text: string) => string>>;

type Env = Readonly<Record<string, string | undefined>>;

/** True when `output` should be coloured: FORCE_COLOR decides if set, then NO_COLOR, then whether it is a terminal that can. */
export function wantsColour(output: Output, env: Env): boolean {
	const forced = env.FORCE_COLOR;
	if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
	if (env.NO_COLOR) return false;
	return output.isTTY === true && env.TERM !== 'dumb';
}

/** Styles for `output`; they return their text untouched where there is no colour. */
export function styleFor(output: Output, env: Env): Style {
	const colour = wantsColour(output, env);
	const make = (name: keyof Style) => (text: string) => (colour ? styleText(name, text, { validateStream: false }) : text);
	return { bold: make('bold'), dim: make('dim'), green: make('green'), yellow: make('yellow'), red: make('red') };
}
