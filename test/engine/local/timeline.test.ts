/** @file From what devices note to a timeline: frozen work by name, waits apart from sums, messages with both ends. */
import { expect, it } from 'vitest';
import { timelineOf } from '../../../src/engine/local/timeline.ts';
import {
	channelId,
	type DeviceProgram,
	deviceId,
	graphId,
	groupId,
	type Instruction,
	type Program,
	slotId,
} from '../../../src/program/types.ts';

const run = (more: Partial<Extract<Instruction, { op: 'run' }>>): Instruction => ({
	op: 'run',
	graph: graphId('g'),
	inputs: [],
	outputs: [],
	label: 'work',
	...more,
});
const device = (id: number, iteration: readonly Instruction[]): DeviceProgram => ({
	device: deviceId(id),
	banks: [],
	residents: [],
	prologue: [],
	iteration,
	epilogue: [],
});
const sum: Instruction = { op: 'allReduce', group: groupId('all'), slots: [slotId('norm')] };
const channel = channelId('0>1');
const program: Program = {
	version: 1,
	name: 'two',
	devices: [
		device(0, [run({ action: { stage: 0, kind: 'F', micro: 0 } }), { op: 'send', peer: deviceId(1), channel, slot: slotId('h') }, sum]),
		device(1, [
			{ op: 'recv', peer: deviceId(0), channel, slot: slotId('h') },
			run({ frozen: { part: 'vae', layers: [2, 5], samples: [4, 5] } }),
			{ op: 'drop', slots: [slotId('h')] },
			sum,
		]),
	],
	graphs: {},
	groups: { all: [deviceId(0), deviceId(1)] },
	sources: {},
};

it('tells work, frozen work, waits, sums and messages apart', () => {
	const noted = [Float64Array.of(100, 110, 110, 111, 111, 141), Float64Array.of(101, 111, 111, 130, 130, 131, 131, 141)];
	const [first, second] = timelineOf(program, 'iteration', noted).devices;
	expect(first!.spans).toEqual([
		{ name: 'work', kind: 'run', start: 0, end: 10, action: { stage: 0, kind: 'F', micro: 0 } },
		{ name: 'send h to device 1', kind: 'send', start: 10, end: 11, message: '0>1 0' },
		{ name: 'wait for all', kind: 'idle', start: 11, end: 31 },
		{ name: 'allReduce norm', kind: 'allReduce', start: 31, end: 41 },
	]);
	expect(second!.spans).toEqual([
		{ name: 'recv h from device 0', kind: 'recv', start: 1, end: 11, message: '0>1 0' },
		{
			name: 'work',
			kind: 'frozen',
			start: 11,
			end: 30,
			part: 'vae',
			frozen: { part: 'vae', layers: [2, 5], samples: [4, 5] },
			details: { component: 'vae', layers: '2-4', samples: '4' },
		},
		{ name: 'drop 1 slots', kind: 'drop', start: 30, end: 31 },
		{ name: 'allReduce norm', kind: 'allReduce', start: 31, end: 41 },
	]);
});
