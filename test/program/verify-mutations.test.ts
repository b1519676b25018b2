import fc from 'fast-check';
import { expect, test } from 'vitest';
import { scheduleByName, schedules } from '../../src/plan/schedules/index.ts';
import type { WarmUp } from '../../src/plan/schedules/types.ts';
import { channelId, deviceId, type Instruction, type Program, slotId } from '../../src/program/types.ts';
import { verifyProgram } from '../../src/program/verify.ts';
import { edit, pipelineProgram } from './pipeline.ts';
import { execute } from './symbolic.ts';

const pipeline = fc.record({
	name: fc.constantFrom(...Object.keys(schedules)),
	stages: fc.integer({ min: 1, max: 4 }),
	microBatches: fc.integer({ min: 1, max: 5 }),
	warmup: fc.constantFrom<WarmUp>('usual', 'deep'),
	replicas: fc.integer({ min: 1, max: 2 }),
});

type Pipeline = typeof pipeline extends fc.Arbitrary<infer P> ? P : never;

const programOf = ({ name, replicas, ...options }: Pipeline) => pipelineProgram({ schedule: scheduleByName(name)(options), replicas });

/** Picks below `count`, from one seed. */
function picker(seed: number): (count: number) => number {
	let state = seed >>> 0;
	return (count) => {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		return Math.floor((state / 2 ** 32) * count);
	};
}

const accepts = (program: Program) => {
	try {
		verifyProgram(program);
		return true;
	} catch (error) {
		expect(error).toMatchObject({ name: 'DiffusionPipeError', kind: 'program' });
		return false;
	}
};

type Mutation = 'remove' | 'double' | 'move' | 'slot' | 'peer' | 'channel';

/** One send, recv or drop of one device changed. */
function mutate(program: Program, kind: Mutation, pick: (count: number) => number): Program {
	const device = program.devices[pick(program.devices.length)]!;
	const all = program.devices.flatMap((d) => d.iteration);
	return edit(program, device.device, (instructions) => {
		const targets = instructions.flatMap((i, k) => (i.op === 'send' || i.op === 'recv' || i.op === 'drop' ? [k] : []));
		const at = targets[pick(targets.length)]!;
		const target = instructions[at]!;
		const others = [...instructions.slice(0, at), ...instructions.slice(at + 1)];
		const replace = (by: Instruction) => instructions.with(at, by);
		const names = [...new Set(instructions.flatMap((i) => ('slot' in i ? [i.slot] : i.op === 'run' ? [...i.inputs, ...i.outputs] : [])))];
		const name = [...names, slotId('new')][pick(names.length + 1)]!;
		const channels = [...new Set(all.flatMap((i) => ('channel' in i ? [i.channel] : [])))];
		if (kind === 'remove') return others;
		if (kind === 'double') return instructions.toSpliced(at, 0, target);
		if (kind === 'move') return others.toSpliced(pick(instructions.length), 0, target);
		if (target.op === 'drop') return replace({ ...target, slots: target.slots.with(pick(target.slots.length), name) });
		if (target.op !== 'send' && target.op !== 'recv') return instructions;
		if (kind === 'slot') return replace({ ...target, slot: name });
		if (kind === 'peer') return replace({ ...target, peer: deviceId(pick(program.devices.length + 1)) });
		return replace({ ...target, channel: [...channels, channelId('new')][pick(channels.length + 1)]! });
	});
}

test('pipelines of every schedule are accepted, and compute the same in whatever order devices run', () => {
	fc.assert(
		fc.property(pipeline, fc.integer(), (options, seed) => {
			const program = programOf(options);
			expect(accepts(program)).toBe(true);
			const numbers = new Map<string, number>();
			const outcome = execute(program, numbers, picker(seed));
			expect(outcome.ok).toBe(true);
			expect(execute(program, numbers, () => 0)).toEqual(outcome);
		}),
		{ numRuns: 60 },
	);
});

test('one send, recv or drop changed is refused, or changes nothing that is computed', () => {
	const counts = { refused: 0, harmless: 0 };
	const kinds = fc.constantFrom<Mutation>('remove', 'double', 'move', 'slot', 'peer', 'channel');
	fc.assert(
		fc.property(pipeline, kinds, fc.integer(), (options, kind, seed) => {
			const program = programOf(options);
			const pick = picker(seed);
			const mutant = mutate(program, kind, pick);
			const numbers = new Map<string, number>();
			const original = execute(program, numbers, () => 0);
			const outcome = execute(mutant, numbers, pick);
			const same = outcome.ok && original.ok && outcome.results.join() === original.results.join();
			const accepted = accepts(mutant);
			counts[accepted ? 'harmless' : 'refused']++;
			if (accepted) expect(outcome).toEqual(original);
			// An instruction that only moved changes no name, peer or count: whatever still computes the same must be accepted.
			if (kind === 'move') expect(accepted).toBe(same);
		}),
		{ numRuns: 1000 },
	);
	expect(counts.refused).toBeGreaterThan(500);
	expect(counts.harmless).toBeGreaterThan(20);
});
