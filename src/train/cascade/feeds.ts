/** @file What each step of a cascade is fed: its batch, its texts encoded beside the step or, in a filled run, by the devices within the step before. */
import type { Tensor } from '../../core/tensor.ts';
import type { TrainConfig } from '../config.ts';
import { keptBatches } from '../data/kept-batches.ts';
import type { Loader } from '../data/loader.ts';
import type { HostBatch } from '../filled/parts.ts';
import type { FrozenText } from '../frozen.ts';
import { captionDropper } from '../frozen-parts.ts';
import type { PerBackbone } from './config.ts';
import type { Cascade } from './models.ts';

/** What a step is fed, and in a filled run what its frozen parts are fed within the step before. */
export interface CascadeStepFeeds {
	readonly feeds: (step: number) => Promise<PerBackbone<Record<string, Tensor>>>;
	readonly ahead?: (step: number) => Promise<Record<string, Tensor>>;
}

/** Loads a step's batch and encodes its texts, of which `config` (the base's) drops some for both models. */
export function inlineFeeds(config: TrainConfig, loader: Loader, cascade: Cascade, text: FrozenText | undefined): CascadeStepFeeds {
	const drop = captionDropper(config);
	return {
		feeds: async (step) => {
			const batch = await loader.batchAt(step);
			return cascade.feeds(batch, text && (await text.encode(drop(step, batch.captions))));
		},
	};
}

/** The feeds of a filled run: token ids go to the text encoder a step ahead, the rest to the step itself. `give` makes the encoder's feeds. */
export function filledFeeds(
	config: TrainConfig,
	loader: Loader,
	cascade: Cascade,
	give: (step: number, batch: HostBatch) => Record<string, Tensor>,
): Required<CascadeStepFeeds> {
	const drop = captionDropper(config);
	const batchAt = keptBatches(loader);
	return {
		ahead: async (step) => {
			const { images, captions } = await batchAt(step);
			return give(step, { images, captions: drop(step, captions) });
		},
		feeds: async (step) => cascade.feeds(await batchAt(step)),
	};
}
