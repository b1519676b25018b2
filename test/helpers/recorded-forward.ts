/** @file The local engine's forward runs, recorded. A test mocks `engine/local/forward.ts` with `recordForward`. */
import type { Tensor } from '../../src/core/tensor.ts';
import type * as forward from '../../src/engine/local/forward.ts';

/** One call of `run`. */
export interface RecordedRun {
	/** Name of the chain. */
	readonly chain: string;
	readonly inputs: Readonly<Record<string, Tensor>>;
	readonly outputs: Readonly<Record<string, Tensor>>;
}

export interface Recording {
	readonly runs: RecordedRun[];
	/** Compiled chains that are not closed, and the most there were at once. */
	open: number;
	mostOpen: number;
}

export const newRecording = (): Recording => ({ runs: [], open: 0, mostOpen: 0 });

/** The module with everything that it opens recorded. */
export function recordForward(original: typeof forward, recording: Recording): typeof forward {
	return {
		...original,
		async openForward(chain, options) {
			const inner = await original.openForward(chain, options);
			recording.open++;
			recording.mostOpen = Math.max(recording.mostOpen, recording.open);
			return {
				...inner,
				async run(inputs) {
					const outputs = await inner.run(inputs);
					recording.runs.push({ chain: chain.name, inputs, outputs });
					return outputs;
				},
				async close() {
					recording.open--;
					await inner.close();
				},
			};
		},
	};
}
