/** @file Checks of the options of `generate` that need no model. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { GenerateOptions } from './pipeline.ts';

type Usage = 'prompts' | 'labels';

/** Options that mean something to one kind of model alone. */
const onlyFor: Readonly<Record<Usage, readonly (keyof GenerateOptions)[]>> = {
	prompts: ['prompts', 'negativePrompt', 'image', 'strength', 'controlImage', 'controlScale'],
	labels: ['labels'],
};
const hints: Readonly<Record<Usage, string>> = { prompts: '--prompt "a lighthouse at dawn"', labels: '--labels 0,1,2' };

/** Throws a usage error for options of the other kind of model, and for numbers that mean nothing. */
export function checkGiven(options: GenerateOptions, takes: Usage, place: string): void {
	const other = takes === 'prompts' ? 'labels' : 'prompts';
	const stray = onlyFor[other].find((key) => options[key] !== undefined);
	if (stray) {
		throw new DiffusionPipeError('usage', `the model takes ${takes}, and has no use for ${stray}`, {
			place,
			expected: takes === 'prompts' ? 'prompts: it draws what a text says' : 'labels: it draws classes',
			found: stray,
			hint: hints[takes],
		});
	}
	const range = (key: 'strength' | 'guidanceScale' | 'controlScale' | 'steps' | 'seed', expected: string, fits: (n: number) => boolean) => {
		const value = options[key];
		if (value === undefined || fits(value)) return;
		throw new DiffusionPipeError('usage', 'has a wrong value', { place: key, expected, found: String(value) });
	};
	range('steps', 'a whole number above 0', (n) => Number.isSafeInteger(n) && n > 0);
	range('seed', 'a whole number', Number.isSafeInteger);
	range('guidanceScale', 'a number from 0', (n) => Number.isFinite(n) && n >= 0);
	range('controlScale', 'a number', Number.isFinite);
	range('strength', 'a number from 0 to 1', (n) => n >= 0 && n <= 1);
	requireOther(options, 'strength', 'image');
	requireOther(options, 'controlScale', 'controlImage');
	if (takes === 'prompts' && (options.prompts ?? []).length === 0) {
		throw new DiffusionPipeError('usage', 'there is no prompt', { place, expected: 'one prompt or more', hint: hints.prompts });
	}
}

function requireOther(options: GenerateOptions, key: keyof GenerateOptions, other: keyof GenerateOptions): void {
	if (options[key] === undefined || options[other] !== undefined) return;
	throw new DiffusionPipeError('usage', `means nothing without ${other}`, { place: key, expected: `${other} too, or neither` });
}
