/**
 * @file Interleaved 1F1B (Narayanan et al., arXiv 2104.04473): every rank holds several stages of the chain, so that the pipeline fills in stages
 * of a fraction of the rank's work. The order is that of Megatron-LM and of PyTorch's ScheduleInterleaved1F1B.
 */
import { checkPlaceOptions, refuse } from './options.ts';
import { linear } from './topology.ts';
import type { Action, PlaceOptions, Schedule, Topology } from './types.ts';

const name = 'interleaved-1f1b';

export const interleaved = {
	/** `chunks` stages per rank. Throws an input error unless there are two or more and R divides the micro-batches. */
	topology(options: PlaceOptions): Topology {
		checkPlaceOptions(name, options);
		const { ranks, microBatches, chunks = 2 } = options;
		if (chunks < 2) refuse(name, 'too few stages per rank', 'chunks of 2 or more', String(chunks), '1f1b');
		if (microBatches % ranks !== 0) {
			refuse(name, 'micro-batches do not go round the ranks', `a multiple of ${ranks} ranks`, `${microBatches} micro-batches`);
		}
		return linear(ranks, chunks);
	},
	/**
	 * A rank takes R micro-batches through its first stage, the same R through its second and so on, then the next R; backwards likewise from its last
	 * stage. Before the first backward it runs (chunks-1) R + 2 (R-1-rank) forwards.
	 */
	rows(_: Topology, { ranks, microBatches, chunks = 2 }: PlaceOptions): Schedule {
		const steps = microBatches * chunks;
		return Array.from({ length: ranks }, (_, rank) => {
			const action = (kind: 'F' | 'B', step: number): Action => {
				const chunk = Math.floor(step / ranks) % chunks;
				const micro = Math.floor(step / (ranks * chunks)) * ranks + (step % ranks);
				return { stage: (kind === 'F' ? chunk : chunks - 1 - chunk) * ranks + rank, kind, micro };
			};
			const depth = Math.min(steps, (chunks - 1) * ranks + 2 * (ranks - 1 - rank));
			const row: Action[] = [];
			for (let step = 0; step < steps + depth; step++) {
				if (step < steps) row.push(action('F', step));
				if (step >= depth) row.push(action('B', step - depth));
			}
			return row;
		});
	},
};
