/** @file Looks for values that are no longer finite before they are saved: a checkpoint of them cannot be gone on from. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { CheckpointContent } from './checkpoint.ts';

/** What a diverged run is told. */
export interface Divergence {
	/** Config key of the learning rate. */
	readonly rate: string;
	/** The checkpoint before, if there is one. */
	readonly good: string | undefined;
	/** Which of several models. */
	readonly model?: string;
}

/** What to do about a run that diverged. */
export function divergedHint({ rate, good }: Divergence): string {
	return `lower ${rate}${good === undefined ? '' : `, and go on from the last good checkpoint: --resume ${good} --allow-config-change`}`;
}

/** Throws an engine error naming the first trained parameter whose values, moments or average are not all finite. */
export function checkFinite(
	{ state, parameters, moments, average }: Pick<CheckpointContent, 'state' | 'parameters' | 'moments' | 'average'>,
	divergence: Divergence,
): void {
	const saved = Object.entries(moments).map(([name, moment]) => [name, { moment }] as const);
	const roles = [['value', 'parameter'] as const, ...saved, ...(average === undefined ? [] : [['average', { moment: average }] as const])];
	for (const parameter of parameters) {
		if (!parameter.trained) continue;
		for (const [what, role] of roles) {
			const values = parameter.views(role)[0]!;
			const at = notFinite(values);
			if (at < 0) continue;
			throw new DiffusionPipeError('engine', 'is no longer finite, so no checkpoint is written', {
				place: `${divergence.model === undefined ? '' : `${divergence.model}, `}step ${state.step}, parameter ${parameter.name}`,
				found: `${what} ${values[at]} at element ${at}`,
				hint: divergedHint(divergence),
			});
		}
	}
}

/** Place of the first NaN or infinity; -1 when there is none. */
function notFinite(values: Float32Array): number {
	for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
	return -1;
}
