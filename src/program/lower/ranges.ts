/** @file Which layers each stage of a cut chain has. */
import { DiffusionPipeError } from '../../core/errors.ts';

/** [from, to) of each stage. Throws a program error when a cut leaves a stage without layers. */
export function stageRanges(layers: number, cuts: readonly number[]): readonly (readonly [number, number])[] {
	const bounds = [0, ...cuts, layers];
	for (let i = 1; i < bounds.length; i++) {
		if (bounds[i]! <= bounds[i - 1]!) {
			throw new DiffusionPipeError('program', `stage ${i - 1} has no layers`, {
				place: `cuts ${cuts.join(', ')}`,
				expected: `rising numbers between 1 and ${layers - 1}`,
			});
		}
	}
	return bounds.slice(1).map((to, i) => [bounds[i]!, to] as const);
}
