/** @file `--split`: where a person wants the backbones cut. */
import { DiffusionPipeError } from '../../core/errors.ts';

/** `3,7` to [[3, 7]]; `3,7;2,5` for two backbones; an empty text cuts nowhere. Throws a usage error for anything that is no whole number. */
export function readSplit(text: string): number[][] {
	return text.split(';').map((part) =>
		part
			.split(',')
			.map((word) => word.trim())
			.filter((word, _, all) => word !== '' || all.length > 1)
			.map((word) => {
				if (/^\d+$/.test(word)) return Number(word);
				throw new DiffusionPipeError('usage', 'is no list of layers', {
					place: `--split ${text}`,
					expected: 'the first layer of each stage but the first, as 3,7; one list per backbone, as 3,7;2,5',
					found: JSON.stringify(word),
				});
			}),
	);
}
