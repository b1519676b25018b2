/** @file Self-conditioning of a run: what is fed back, how often, and in which steps. */
import { randomStream } from '../core/random.ts';
import { x0Estimate } from '../diffusion/objective.ts';
import type { Denoiser } from '../models/index.ts';
import type { Profile } from '../plan/profile/types.ts';
import type { TrainedBackbone } from '../program/lower.ts';
import type { TrainConfig } from './config.ts';

/** How a run is self-conditioned. */
export interface SelfConditioning extends NonNullable<TrainedBackbone['selfConditioning']> {
	/** Share of the steps with a sweep ahead. */
	readonly probability: number;
}

/** How `config` has a model trained: undefined when no step has a sweep ahead, or the model takes no estimate. */
export function selfConditioningOf({ objective }: Pick<TrainConfig, 'objective'>, denoiser: Denoiser): SelfConditioning | undefined {
	const probability = objective.self_conditioning;
	const input = denoiser.selfConditioning?.input;
	return probability > 0 && input !== undefined ? { input, output: x0Estimate, probability } : undefined;
}

/** `profile` of a run that is self-conditioned so, or not at all. */
export function conditioned(profile: Profile, selfConditioning: SelfConditioning | undefined): Profile {
	const probability = selfConditioning?.probability ?? 0;
	return { ...profile, backbones: profile.backbones.map((backbone) => ({ ...backbone, selfConditioning: probability })) };
}

/** Which steps have a sweep ahead: a function of the seed and the step. */
export function sweptSteps({ seed, objective }: Pick<TrainConfig, 'seed' | 'objective'>): (step: number) => boolean {
	const stream = randomStream(seed, 'train.self_conditioning');
	return (step) => stream.uniform(step, 0) < objective.self_conditioning;
}
