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
 * under `auto`, when nothing fits, what it throws for the choice that takes least memory. Where `parallel.memory_bytes` does not suffice that is a config error
 * which names the keys that matter.
 */
export function firstThatFits<T>(config: SessionConfig, attempt: (settled: SettledConfig) => T): T {
	const { parallel } = config;
	const settled = (activation_checkpointing: Recompute): SettledConfig => ({
		...config,
		parallel: { ...parallel, activation_checkpointing },
	});
	const { activation_checkpointing: asked, memory_bytes } = parallel;
	const tried = asked === 'auto' ? choices : [asked];
	for (const choice of tried) {
		try {
			return attempt(settled(choice));
		} catch (error) {
			if (!(error instanceof DiffusionPipeError && error.parts.reason === 'memory')) throw error;
			if (choice !== tried.at(-1)) continue;
			throw memory_bytes > 0 ? byKeys(error, choice) : error;
		}
	}
	throw new DiffusionPipeError('internal', 'nothing to try', { place: 'parallel.activation_checkpointing' });
}

/** `error` with the keys of a config that change what fits. */
function byKeys({ what, parts }: DiffusionPipeError, tried: Recompute): DiffusionPipeError {
	const again = tried === choices.at(-1) ? [] : ['parallel.activation_checkpointing = "auto"'];
	const more = ['more train.gradient_accumulation_steps', 'more parallel.pipeline_stages', 'a larger parallel.memory_bytes'];
	return new DiffusionPipeError('config', what, { ...parts, hint: [...again, ...more].join(', or ') });
}

/** What the backward computes again where nothing is tried: the choice that takes least time stands for `auto`. */
export function recomputeOf({ parallel: { activation_checkpointing: asked } }: Pick<SessionConfig, 'parallel'>): Recompute {
	return asked === 'auto' ? choices[0]! : asked;
}
