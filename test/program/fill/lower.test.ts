import fc from 'fast-check';
import { expect, test } from 'vitest';
import { adamwHyperSize } from '../../../src/program/adamw.ts';
import { lowerFilled } from '../../../src/program/fill/lower.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { mixedChain } from '../../engine/chains.ts';
import { fillItems, frozenParts } from '../../engine/filled.ts';
import { compile, layout } from '../../engine/suite.ts';

const layouts = [layout([], '1f1b', 1, 2), layout([2], '1f1b', 1, 4), layout([1, 3], 'gpipe', 1, 2), layout([2], '1f1b', 2, 2)];
const placed = [
	{ ...layout([1, 2, 3], 'zero-bubble', 1, 4), place: { ranks: 2, placement: 'folded' } },
	{ ...layout([1, 2, 3], 'interleaved-1f1b', 1, 4), place: { ranks: 2, chunks: 2 } },
	{ ...layout([2], 'zero-bubble', 1, 2), shares: [1, 3] },
] as const;

test('any plan of the frozen work gives a program that verifies, with every sample of every layer run once per iteration', () => {
	const { parts, given } = frozenParts();
	for (const each of [...layouts, ...placed]) {
		const training = compile(mixedChain, each, { moments: 2, hyperSize: adamwHyperSize });
		const devices = training.program.devices.length;
		fc.assert(
			fc.property(fillItems(8, devices, 100), (items) => {
				const starts = (device: number) =>
					training.program.devices[device]!.iteration.flatMap((i) => (i.op === 'run' && i.action ? [i] : [])).map((_, i) => 7 * i);
				const filled = lowerFilled(training, { parts, given, items, starts });
				verifyProgram(filled.program);
				const seen = new Map<string, number[]>();
				for (const { iteration } of filled.program.devices) {
					for (const i of iteration) {
						if (i.op !== 'run' || !i.frozen) continue;
						for (let layer = i.frozen.layers[0]; layer < i.frozen.layers[1]; layer++) {
							const counts = seen.get(`${i.frozen.part} ${layer}`) ?? new Array<number>(8).fill(0);
							seen.set(`${i.frozen.part} ${layer}`, counts);
							for (let s = i.frozen.samples[0]; s < i.frozen.samples[1]; s++) counts[s]!++;
						}
					}
				}
				expect([...seen.keys()].sort()).toEqual(['encoder 0', 'encoder 1', 'encoder 2', 'teacher 0', 'teacher 1']);
				for (const counts of seen.values()) expect(counts).toEqual(new Array(8).fill(1));
				expect(filled.frozenSources.toSorted()).toEqual(['encoder.noise', 'encoder.pixels', 'teacher.words']);
				expect(filled.program.sources.x).toBeUndefined();
			}),
			{ numRuns: 20 },
		);
	}
});
