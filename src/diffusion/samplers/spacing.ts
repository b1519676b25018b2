/** @file Which training timesteps a sampler visits: `timestep_spacing` as in table 2 of Lin et al., arXiv 2305.08891. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { linspace } from '../schedule.ts';
import { choice, integer } from './options.ts';

/** The options of spacing; `linspace` is the default of some schedulers and `leading` of others. */
export function spacingOptions<F extends Spacing>(fallback: F) {
	return { timestep_spacing: choice<Spacing>(fallback, ['linspace', 'leading', 'trailing']), steps_offset: integer(0, 0) };
}

/** The ways to space timesteps. */
export type Spacing = 'linspace' | 'leading' | 'trailing';

/**
 * `steps` timesteps, descending and below num_train_timesteps; fewer when `trailing` starts at a lower `last`.
 * @param extraPoint multistep solvers space steps + 1 points and drop the lowest (in `linspace` and `leading`).
 * @param whole whether `linspace` rounds to whole timesteps.
 * @param last the number of timesteps to use when the noisiest are cut off (`lambda_min_clipped`).
 */
export function spacedTimesteps(
	place: string,
	steps: number,
	options: { readonly num_train_timesteps: number; readonly timestep_spacing: Spacing; readonly steps_offset: number },
	{ extraPoint = false, whole = true, last = options.num_train_timesteps } = {},
): number[] {
	const { num_train_timesteps: trained, timestep_spacing: spacing, steps_offset: offset } = options;
	const points = extraPoint ? steps + 1 : steps;
	const spaced = () => {
		switch (spacing) {
			case 'linspace':
				return [...linspace(0, last - 1, points)].map((t) => (whole ? roundHalfEven(t) : Math.fround(t))).reverse();
			case 'leading':
				return Array.from({ length: points }, (_, i) => i * Math.floor(last / points) + offset).reverse();
			case 'trailing':
				return Array.from({ length: steps }, (_, i) => last - i * (trained / steps))
					.filter((t) => t > 0)
					.map((t) => roundHalfEven(t) - 1);
		}
	};
	const timesteps = spaced().slice(0, steps);
	const descending = timesteps.every((t, i) => t >= 0 && t < trained && (i === 0 || t < timesteps[i - 1]!));
	if (!descending) {
		throw new DiffusionPipeError('config', `no ${spacing} timesteps for ${steps} steps`, {
			place,
			expected: `descending timesteps from 0 to ${trained - 1}`,
			found: timesteps.length > 12 ? `${timesteps.slice(0, 12).join(', ')}, ...` : timesteps.join(', '),
			hint: offset > 0 ? 'use fewer steps or a smaller steps_offset' : 'use fewer steps',
		});
	}
	return timesteps;
}

/** Rounds halves to the even neighbour, as NumPy does. */
export function roundHalfEven(x: number): number {
	const floor = Math.floor(x);
	const rest = x - floor;
	return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
