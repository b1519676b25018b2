import fc from 'fast-check';
import { expect, test } from 'vitest';
import { adamwHyperSize } from '../../../src/program/adamw.ts';
import { lowerFilled } from '../../../src/program/fill/lower.ts';
import { sweptProgram } from '../../../src/program/swept.ts';
import { type Instruction, type Program, slotId } from '../../../src/program/types.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { mixedChain, selfChain } from '../../engine/chains.ts';
import { fillItems, frozenParts } from '../../engine/filled.ts';
import { compile, layout } from '../../engine/suite.ts';

const layouts = [layout([], '1f1b', 1, 2), layout([2], '1f1b', 1, 4), layout([1, 3], 'gpipe', 1, 2), layout([2], '1f1b', 2, 2)];
const placed = [
	{ ...layout([1, 2, 3], 'zero-bubble', 1, 4), place: { ranks: 2, placement: 'folded' } },
	{ ...layout([1, 2, 3], 'interleaved-1f1b', 1, 4), place: { ranks: 2, chunks: 2 } },
	{ ...layout([2], 'zero-bubble', 1, 2), shares: [1, 3] },
] as const;

const back = { input: 'self_cond', output: 'x0' };

test('any plan of the frozen work gives a program that verifies, with every sample of every layer run once per iteration', () => {
	const { parts, given } = frozenParts();
	const jobs = [
		...[...layouts, ...placed].map((each) => ({ chain: mixedChain, each, selfConditioning: undefined })),
		...[layouts[1]!, layouts[3]!, placed[2]].map((each) => ({ chain: selfChain, each, selfConditioning: back })),
	];
	for (const { chain, each, selfConditioning } of jobs) {
		const training = compile(chain, each, { moments: 2, hyperSize: adamwHyperSize }, selfConditioning);
		const devices = training.program.devices.length;
		const startsIn = (program: Program) => (device: number) =>
			program.devices[device]!.iteration.flatMap((i) => (i.op === 'run' && i.action ? [i] : [])).map((_, i) => 7 * i);
		const starts = startsIn(training.program);
		const withSweep = sweptProgram(training.program);
		fc.assert(
			fc.property(fillItems(8, devices, 100), fillItems(8, devices, 100), (items, other) => {
				const swept = withSweep && { items: other, starts: startsIn(withSweep) };
				const filled = lowerFilled(training, { parts, given, items, starts, ...(swept ? { swept } : {}) });
				verifyProgram(filled.program);
				for (const program of [filled.program, ...(withSweep ? [sweptProgram(filled.program)!] : [])]) {
					const seen = new Map<string, number[]>();
					for (const { iteration } of program.devices) {
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
				}
				expect(filled.frozenSources.toSorted()).toEqual(['encoder.noise', 'encoder.pixels', 'teacher.words']);
				expect(filled.program.sources.x).toBeUndefined();
			}),
			{ numRuns: withSweep ? 8 : 20 },
		);
	}
});

test('both kinds of iteration must be filled, or none', () => {
	const { parts, given } = frozenParts();
	const training = compile(selfChain, layouts[1]!, { moments: 2, hyperSize: adamwHyperSize }, back);
	const filling = { items: fc.sample(fillItems(8, 2, 100), { numRuns: 1, seed: 1 })[0]!, starts: () => [] };
	expect(() => lowerFilled(training, { parts, given, ...filling })).toThrow(/not every kind of iteration has a filling/);
	const plain = compile(mixedChain, layouts[1]!, { moments: 2, hyperSize: adamwHyperSize });
	expect(() => lowerFilled(plain, { parts, given, ...filling, swept: filling })).toThrow(/expected: a program with a sweep ahead/);
});

test('sweeps find what prologue and either kind of iteration leave: a program in which one does not is refused', () => {
	const { parts, given } = frozenParts();
	const training = compile(selfChain, layouts[1]!, { moments: 2, hyperSize: adamwHyperSize }, back);
	const items = fc.sample(fillItems(8, 2, 100), { numRuns: 1, seed: 1 })[0]!;
	const starts = () => new Array<number>(100).fill(0);
	const { program } = lowerFilled(training, { parts, given, items, starts, swept: { items, starts } });
	const [first, ...others] = program.devices;
	const isDelivery = (i: Instruction) => i.op === 'run' && i.outputs.includes(slotId('feed:x#0'));
	const { iteration } = first!.swept!;
	expect(iteration.some(isDelivery)).toBe(true);
	const broken = { ...first!, swept: { ...first!.swept!, iteration: iteration.filter((i) => !isDelivery(i)) } };
	expect(() => verifyProgram({ ...program, devices: [broken, ...others] })).toThrow(/feed:x#0/);
});
