/** @file Gradient checkpointing by plan: `activation_checkpointing = "auto"` runs as little again in the backward as fits in memory. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Recompute } from '../graph/saved.ts';
import type { SessionConfig } from './session.ts';

/** A config in which it is settled what the backward computes again. */
export type SettledConfig = SessionConfig & { readonly parallel: { readonly activation_checkpointing: Recompute } };

/** From most memory to least, and from least time to most. */
const choices: readonly Recompute[] = ['views', 'cheap', 'full'];

/**
 * What `attempt` makes of the config: as it is, or under `auto` of the first choice that fits in `parallel.memory_bytes`. Throws what `attempt` throws;
 * under `auto`, when nothing fits, what it throws for the choice that takes least memory.
 */
export function firstThatFits<T>(config: SessionConfig, attempt: (settled: SettledConfig) => T): T {
	const { parallel } = config;
	const settled = (activation_checkpointing: Recompute): SettledConfig => ({
		...config,
		parallel: { ...parallel, activation_checkpointing },
	});
	if (parallel.activation_checkpointing !== 'auto') return attempt(settled(parallel.activation_checkpointing));
	for (const choice of choices.slice(0, -1)) {
		try {
			return attempt(settled(choice));
		} catch (error) {
			if (!(error instanceof DiffusionPipeError && error.parts.reason === 'memory')) throw error;
		}
	}
	return attempt(settled(choices.at(-1)!));
}

/** What the backward computes again where nothing is tried: the choice that takes least time stands for `auto`. */
export function recomputeOf({ parallel: { activation_checkpointing: asked } }: Pick<SessionConfig, 'parallel'>): Recompute {
	return asked === 'auto' ? choices[0]! : asked;
}
