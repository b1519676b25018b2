/** @file An independent execution of programs for tests: every value is a number that stands for the expression that computed it. */
import type { Instruction, Program } from '../../src/program/types.ts';

/** What a program computes in two iterations: all fetched values and the final residents; or why it cannot be executed. */
export type Outcome = { readonly ok: true; readonly results: readonly string[] } | { readonly ok: false; readonly why: string };

/**
 * Executes `program`, choosing among the devices that can go on by `choose(count)`. Sends are buffered; peers and types are not looked at. Outcomes of
 * executions that share `numbers` can be compared.
 */
export function execute(program: Program, numbers: Map<string, number>, choose: (count: number) => number): Outcome {
	const numberOf = (expression: string): number => {
		const known = numbers.get(expression) ?? numbers.size;
		numbers.set(expression, known);
		return known;
	};
	const lanes = program.devices.map(({ device, prologue, iteration, epilogue, residents }) => ({
		device,
		steps: [...prologue, ...iteration, ...iteration, ...epilogue],
		next: 0,
		residents: new Set<string>(residents.map(({ slot }) => slot)),
		slots: new Map<string, number>(residents.map(({ slot }) => [slot, numberOf(`initial ${slot} of ${device}`)])),
	}));
	const channels = new Map<string, number[]>();
	const results: string[] = [];
	const current = (lane: (typeof lanes)[number]): Instruction | undefined => lane.steps[lane.next];
	const ready = (lane: (typeof lanes)[number]): boolean => {
		const instruction = current(lane);
		if (!instruction) return false;
		if (instruction.op === 'recv') return (channels.get(instruction.channel)?.length ?? 0) > 0;
		if (instruction.op !== 'allReduce') return true;
		return lanes
			.filter(({ device }) => program.groups[instruction.group]!.includes(device))
			.every((other) => {
				const at = current(other);
				return at?.op === 'allReduce' && at.group === instruction.group;
			});
	};

	class Broken extends Error {}
	const step = (lane: (typeof lanes)[number]) => {
		const { slots, residents } = lane;
		const instruction = current(lane)!;
		const get = (slot: string): number => {
			const value = slots.get(slot);
			if (value === undefined) throw new Broken(`${slot} is not set`);
			return value;
		};
		const set = (slot: string, value: number) => {
			if (slots.has(slot) && !residents.has(slot)) throw new Broken(`${slot} is set`);
			slots.set(slot, value);
		};
		const remove = (slot: string) => {
			get(slot);
			if (residents.has(slot)) throw new Broken(`${slot} is resident`);
			slots.delete(slot);
		};
		lane.next++;
		switch (instruction.op) {
			case 'feed':
				return set(instruction.slot, numberOf(`feed ${instruction.source} ${instruction.from} ${instruction.to}`));
			case 'run': {
				const inputs = instruction.inputs.map(get).join(',');
				return instruction.outputs.forEach((slot, i) => {
					set(slot, numberOf(`${instruction.graph}(${inputs})[${i}]`));
				});
			}
			case 'send': {
				const value = get(instruction.slot);
				remove(instruction.slot);
				channels.set(instruction.channel, [...(channels.get(instruction.channel) ?? []), value]);
				return;
			}
			case 'recv':
				return set(instruction.slot, channels.get(instruction.channel)!.shift()!);
			case 'allReduce': {
				const members = lanes.filter(({ device }) => program.groups[instruction.group]!.includes(device));
				const lists = members.map((other) => (other === lane ? instruction : (current(other) as typeof instruction)).slots);
				for (let k = 0; k < lists[0]!.length; k++) {
					const parts = members.map((other, i) => other.slots.get(lists[i]![k]!));
					if (parts.includes(undefined)) throw new Broken('a part is not set');
					const sum = numberOf(`sum(${parts.join(',')})`);
					members.forEach((other, i) => {
						other.slots.set(lists[i]![k]!, sum);
					});
				}
				for (const other of members) if (other !== lane) other.next++;
				return;
			}
			case 'update': {
				const state = [...residents].map((slot) => get(slot)).join(',');
				const inputs = `${state};${get(instruction.hyper)},${get(instruction.normSquared)}`;
				for (const slot of residents) set(slot, numberOf(`update ${slot}(${inputs})`));
				return;
			}
			case 'fetch':
				results.push(`${instruction.name} ${instruction.from} = ${get(instruction.slot)}`);
				return;
			case 'drop':
				return instruction.slots.forEach(remove);
			default:
				throw new Broken(`${instruction.op} is not executed here`);
		}
	};
	try {
		for (;;) {
			const able = lanes.filter(ready);
			if (able.length === 0) break;
			step(able[choose(able.length)]!);
		}
	} catch (error) {
		if (error instanceof Broken) return { ok: false, why: error.message };
		throw error;
	}
	if (lanes.some(current)) return { ok: false, why: 'deadlock' };
	if ([...channels.values()].some((queue) => queue.length > 0)) return { ok: false, why: 'a message is left' };
	for (const { device, slots, residents } of lanes) {
		if (slots.size > residents.size) return { ok: false, why: 'a slot is left' };
		for (const [slot, value] of slots) results.push(`${device} ${slot} = ${value}`);
	}
	return { ok: true, results: results.sort() };
}
