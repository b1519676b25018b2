import { describe, expect, test } from 'vitest';
import type { TypeShape } from '../../src/core/tensor.ts';
import { oneFOneB } from '../../src/plan/schedules/one-f-one-b.ts';
import {
	bankId,
	channelId,
	deviceId,
	graphId,
	groupId,
	type Instruction,
	type Program,
	type Resident,
	slotId,
} from '../../src/program/types.ts';
import { type VerifyOptions, verifyProgram } from '../../src/program/verify.ts';
import { edit, pipelineProgram } from './pipeline.ts';

const f32 = (...shape: number[]): TypeShape => ({ dtype: 'float32', shape });
const slots = (...names: string[]) => names.map(slotId);
const feed = (slot: string, source = 'x', from = 0, to = 2): Instruction => ({ op: 'feed', slot: slotId(slot), source, from, to });
const run = (graph: string, inputs: string[], outputs: string[]): Instruction => {
	return { op: 'run', graph: graphId(graph), inputs: slots(...inputs), outputs: slots(...outputs), label: 'run' };
};
const send = (slot: string, peer = 1, channel = 'a'): Instruction => ({
	op: 'send',
	peer: deviceId(peer),
	channel: channelId(channel),
	slot: slotId(slot),
});
const recv = (slot: string, peer = 0, channel = 'a'): Instruction => ({
	op: 'recv',
	peer: deviceId(peer),
	channel: channelId(channel),
	slot: slotId(slot),
});
const allReduce = (names: string[], group = 'both'): Instruction => ({ op: 'allReduce', group: groupId(group), slots: slots(...names) });
const allGather = (slot: string, output: string, axis = 0): Instruction => {
	return { op: 'allGather', group: groupId('both'), slot: slotId(slot), output: slotId(output), axis };
};
const fetch = (slot: string, name = slot, from = 0): Instruction => ({ op: 'fetch', slot: slotId(slot), name, from });
const drop = (...names: string[]): Instruction => ({ op: 'drop', slots: slots(...names) });

/** Devices 0, 1, ... with these iterations; `double` maps [2,3] to [2,3], `wide` maps [2,5] to [2,5]. */
function program(...iterations: Instruction[][]): Program {
	return {
		version: 1,
		name: 'test',
		devices: iterations.map((iteration, d) => ({ device: deviceId(d), banks: [], residents: [], prologue: [], iteration, epilogue: [] })),
		graphs: {
			double: { inputs: [f32(2, 3)], outputs: [f32(2, 3)], workspaceBytes: 100 },
			wide: { inputs: [f32(2, 5)], outputs: [f32(2, 5)], workspaceBytes: 0 },
		},
		groups: iterations.length > 1 ? { both: [deviceId(0), deviceId(1)] } : {},
		sources: { x: { ...f32(6, 3), perSample: true }, y: { ...f32(6, 5), perSample: true }, hyper: { ...f32(7), perSample: false } },
	};
}

/** The error message of a refused program. */
function refusal(candidate: Program, options?: VerifyOptions): string {
	try {
		verifyProgram(candidate, options);
	} catch (error) {
		return (error as Error).message;
	}
	return 'accepted';
}

describe('slots', () => {
	test.each<[string, Instruction[], string]>([
		[
			'used before it is set',
			[run('double', ['x'], ['y'])],
			'device 0, iteration 0 (run run double (x) -> (y)): uses slot x before it is set',
		],
		[
			'used after drop',
			[feed('x'), drop('x'), fetch('x')],
			'device 0, iteration 2 (fetch x as x from 0): uses slot x after it was dropped\n  found: dropped by device 0, iteration 1 (drop (x))',
		],
		['dropped twice', [feed('x'), drop('x', 'x')], 'device 0, iteration 1 (drop (x, x)): uses slot x after it was dropped'],
		[
			'set while set',
			[feed('x'), feed('x'), drop('x')],
			'device 0, iteration 1 (feed x <- x[0:2]): sets slot x while it is set\n  found: set by device 0, iteration 0',
		],
		['written twice by one run', [feed('x'), run('two', ['x'], ['y', 'y']), drop('x', 'y')], 'writes slot y twice'],
		[
			'leaked',
			[feed('x'), run('double', ['x'], ['y']), drop('x')],
			'device 0, iteration 1 (run run double (x) -> (y)): sets slot y, which is still set at the end of the iteration',
		],
		[
			'updated by an unset slot',
			[{ op: 'update', bank: bankId('b'), hyper: slotId('h'), normSquared: slotId('n') }],
			'uses slot h before it is set',
		],
	])('%s', (_, iteration, message) => {
		const base = program(iteration);
		const two = { inputs: [f32(2, 3)], outputs: [f32(2, 3), f32(2, 3)], workspaceBytes: 0 };
		const devices = base.devices.map((d) => ({ ...d, banks: [{ id: bankId('b'), size: 4, moments: 2 }] }));
		expect(refusal({ ...base, devices, graphs: { ...base.graphs, two } })).toContain(message);
	});

	test('used after send, dropped and leaked over a send', () => {
		const sending = (...more: Instruction[]) => refusal(program([feed('x'), send('x'), ...more], [recv('x'), drop('x')]));
		expect(sending()).toBe('accepted');
		expect(sending(fetch('x'))).toContain(
			'uses slot x after it was sent away\n  found: sent away by device 0, iteration 1 (send x to 1 over a)',
		);
		expect(sending(drop('x'))).toContain('after it was sent away');
		expect(refusal(program([feed('x'), send('x')], [recv('x')]))).toContain(
			'device 1, iteration 0 (recv x from 0 over a): sets slot x, which is still set at the end of the iteration',
		);
	});

	test('what the prologue leaves is handed from iteration to iteration and dropped by the epilogue', () => {
		const carrying = (iteration: Instruction[], epilogue: Instruction[]) =>
			edit(
				edit(program(iteration), 0, () => [feed('next')], 'prologue'),
				0,
				() => epilogue,
				'epilogue',
			);
		const replace = [run('double', ['next'], ['y']), drop('next', 'y'), feed('next', 'x', 2, 4)];
		expect(refusal(carrying(replace, [drop('next')]))).toBe('accepted');
		expect(refusal(carrying(replace, []))).toContain(
			'device 0, iteration 2, next time (feed next <- x[2:4]): sets slot next, which is still set at the end of the program',
		);
		expect(refusal(carrying(replace, []), { ignore: ['leak'] })).toBe('accepted');
		expect(refusal(carrying(replace.slice(0, 2), []))).toContain(
			'device 0, iteration 0, next time (run run double (next) -> (y)): uses slot next',
		);
	});

	test('resident slots stay: read and written by run, never sent, dropped or fed', () => {
		const w: Resident = { slot: slotId('w'), ...f32(2, 3), role: 'frozen', parameter: 'w', offset: 0 };
		const withResident = (...iteration: Instruction[]) => {
			const base = program(iteration, [recv('w'), drop('w')]);
			return refusal({ ...base, devices: base.devices.map((d) => ({ ...d, residents: d.device === 0 ? [w] : [] })) });
		};
		const copy = [run('double', ['w'], ['c']), send('c')];
		expect(withResident(run('double', ['w'], ['w']), ...copy)).toBe('accepted');
		expect(withResident(send('w'))).toContain('gives resident slot w away');
		expect(withResident(drop('w'), ...copy)).toContain('gives resident slot w away');
		expect(withResident(feed('w'), ...copy)).toContain('sets resident slot w');
		expect(withResident(feed('y', 'y'), run('wide', ['y'], ['w']), ...copy)).toContain(
			'output 0 of graph wide is of another type\n  expected: float32[2,3] in slot w, resident\n  found: float32[2,5]',
		);
	});
});

describe('graphs and feeds', () => {
	test.each<[string, Instruction[], string]>([
		['an unknown graph', [run('duble', [], [])], 'unknown graph duble\n  expected: one of double, wide\n  try: double'],
		[
			'a wrong number of inputs',
			[feed('x'), run('double', ['x', 'x'], ['y'])],
			'graph double has another number of inputs\n  expected: 1\n  found: 2',
		],
		['a wrong number of outputs', [feed('x'), run('double', ['x'], [])], 'graph double has another number of outputs'],
		[
			'a wrong shape',
			[feed('x', 'x', 0, 1), run('double', ['x'], ['y'])],
			'input 0 of graph double is of another type\n  expected: float32[2,3]\n  found: float32[1,3] in slot x, set by device 0, iteration 0',
		],
		['an unknown source', [feed('x', 'z')], 'unknown source z'],
		['an inherited name', [feed('x', 'toString')], 'unknown source toString'],
		['samples beyond the batch', [feed('x', 'x', 4, 7)], 'samples outside of the batch\n  expected: a range within 0:6\n  found: 4:7'],
		['no samples', [feed('x', 'x', 2, 2)], 'samples outside of the batch'],
		['half a sample', [feed('x', 'x', 0, 0.5)], 'samples outside of the batch'],
		['samples of a source without', [feed('x', 'hyper', 0, 1)], 'source hyper has no samples to choose from'],
		[
			'an unknown bank',
			[{ op: 'update', bank: bankId('b'), hyper: slotId('h'), normSquared: slotId('n') }],
			'unknown bank b\n  expected: none is declared',
		],
	])('%s', (_, iteration, message) => {
		expect(refusal(program(iteration))).toContain(message);
	});

	test('a wrong dtype', () => {
		const base = program([feed('x'), run('double', ['x'], ['y']), drop('x', 'y')]);
		expect(refusal(base)).toBe('accepted');
		const half = { ...base, sources: { x: { dtype: 'float16', shape: [6, 3], perSample: true } } } as const;
		expect(refusal(half)).toContain('expected: float32[2,3]\n  found: float16[2,3] in slot x');
	});

	test('fetches of one name agree in all but their number of samples', () => {
		const pieces = (second: Instruction) =>
			refusal(program([feed('a', 'x', 0, 2), fetch('a', 'image', 0), second, fetch('b', 'image', 2), drop('a', 'b')]));
		expect(pieces(feed('b', 'x', 2, 3))).toBe('accepted');
		expect(pieces(feed('b', 'y', 2, 4))).toContain(
			'fetches image as another type than before\n  expected: float32[2,3] but for the first dimension, as in device 0, iteration 1 (fetch a as image from 0)\n  found: float32[2,5] in slot b',
		);
		expect(refusal(program([feed('a'), fetch('a', 'image'), fetch('a', 'image'), drop('a')]))).toContain(
			'fetches image from sample 0 a second time',
		);
	});
});

describe('channels', () => {
	const pair = [feed('x'), send('x')];
	test.each<[string, Instruction[][], string]>([
		['a send without a receive', [pair, []], 'device 0, iteration 1 (send x to 1 over a): sends what nobody receives'],
		['a receive without a send', [[], [recv('x'), drop('x')]], 'device 1, iteration 0 (recv x from 0 over a): receives what nobody sends'],
		[
			'more sends than receives',
			[
				[...pair, feed('y'), send('y'), feed('z'), send('z')],
				[recv('x'), recv('z'), drop('x', 'z')],
			],
			'device 0, iteration 3 (send y to 1 over a): sends what is never received\n  expected: as many receives as sends over a in an iteration\n  found: 3 sends by device 0, 2 receives by device 1',
		],
		[
			'more receives than sends',
			[pair, [recv('x'), recv('y'), drop('x', 'y')]],
			'device 1, iteration 1 (recv y from 0 over a): receives what is never sent',
		],
		['a wrong peer', [[feed('x'), send('x', 2)], [recv('x'), drop('x')], []], 'device 1, iteration 0 (recv x from 0 over a): wrong peer'],
		['a peer that is not there', [[feed('x'), send('x', 7)], []], 'wrong peer\n  expected: another device (1)\n  found: 7'],
		['itself as peer', [[feed('x'), send('x', 0)], []], 'wrong peer\n  expected: another device (1)\n  found: 0, the device itself'],
		['two senders', [pair, [recv('x'), drop('x')], [feed('x'), send('x')]], 'device 2, iteration 1 (send x to 1 over a): wrong peer'],
		[
			'another order',
			[
				[...pair, feed('y'), send('y')],
				[recv('y'), recv('x'), drop('x', 'y')],
			],
			'device 1, iteration 0 (recv y from 0 over a): receives x under the name of another message\n  expected: x: device 0 sends it as message 0 of a\n  found: y',
		],
		[
			'another type',
			[
				[feed('y', 'y'), send('y')],
				[recv('h'), run('double', ['h'], ['o']), drop('h', 'o')],
			],
			'input 0 of graph double is of another type\n  expected: float32[2,3]\n  found: float32[2,5] in slot h, sent by device 0, iteration 1 (send y to 1 over a)',
		],
	])('%s', (_, iterations, message) => {
		expect(refusal(program(...iterations))).toContain(message);
	});

	test('a receiver may rename, and may ignore names on purpose', () => {
		const crossed = program([...pair, feed('y'), send('y')], [recv('y'), recv('x'), drop('x', 'y')]);
		expect(refusal(program([...pair, feed('y'), send('y')], [recv('p'), recv('q'), drop('p', 'q')]))).toBe('accepted');
		expect(refusal(crossed, { ignore: ['names'] })).toBe('accepted');
	});

	test('a message may stay in flight from one iteration to the next', () => {
		const steady = program(pair, [recv('x'), drop('x')]);
		const started = edit(steady, 0, () => pair, 'prologue');
		expect(refusal(started)).toContain(
			'as many receives as sends over a in prologue, two iterations and epilogue\n  found: 3 sends by device 0, 2 receives by device 1',
		);
		expect(refusal(edit(started, 1, () => [recv('x'), drop('x')], 'epilogue'))).toBe('accepted');
	});
});

describe('collectives', () => {
	test('all devices of the group take part alike', () => {
		const both = (first: Instruction[], second: Instruction[]) =>
			refusal(program([feed('x'), ...first, drop('x')], [feed('x'), ...second, drop('x')]));
		expect(both([allReduce(['x'])], [allReduce(['x'])])).toBe('accepted');
		expect(both([allReduce(['x'])], [])).toContain(
			'group both, iteration: its devices enter different numbers of collectives\n  expected: 1 on each device, as on device 0\n  found: 0 on device 1; without partner: device 0, iteration 1 (allReduce (x) over both)',
		);
		expect(both([allReduce(['x'])], [allGather('x', 'y'), drop('y')])).toContain(
			'device 1, iteration 1 (allGather x -> y over both, axis 0): collective 0 of group both differs between its devices\n  expected: allReduce of 1 slots of x, as on device 0\n  found: allGather along axis 0 of x',
		);
		expect(both([allGather('x', 'y', 0), drop('y')], [allGather('x', 'y', 1), drop('y')])).toContain('found: allGather along axis 1');
		expect(both([allReduce(['x', 'x'])], [allReduce(['x', 'x'])])).toContain('reduces slot x twice');
	});

	test('types agree, but for the axis of a gather', () => {
		const sides = (a: Instruction, b: Instruction, collective: Instruction[]) =>
			program([a, ...collective, drop('x')], [b, ...collective, drop('x')]);
		const gather = [allGather('x', 'all', 0), run('five', ['all'], []), drop('all')];
		const five = { five: { inputs: [f32(5, 3)], outputs: [], workspaceBytes: 0 } };
		expect(refusal({ ...sides(feed('x', 'x', 0, 3), feed('x', 'x', 3, 5), gather), graphs: five })).toBe('accepted');
		expect(refusal({ ...sides(feed('x', 'x', 0, 3), feed('x', 'x', 3, 6), gather), graphs: five })).toContain(
			'found: float32[6,3] in slot all',
		);
		expect(refusal(sides(feed('x'), feed('x', 'y'), [allGather('x', 'all', 0), drop('all')]))).toContain(
			'device 1, iteration 1 (allGather x -> all over both, axis 0): enters the collective with another type\n  expected: float32[2,3], as in device 0',
		);
		expect(refusal(sides(feed('x'), feed('x'), [allGather('x', 'all', 2), drop('all')]))).toContain('an axis of float32[2,3]\n  found: 2');
		expect(refusal(sides(feed('x', 'x', 0, 2), feed('x', 'x', 2, 3), [allReduce(['x'])]))).toContain(
			'enters the collective with another type',
		);
	});

	test('slots come in one order, where their names tell', () => {
		const two = (...names: string[]) => [feed('p'), feed('q'), ...names.map((name) => allReduce([name])), drop('p', 'q')];
		expect(refusal(program(two('p', 'q'), two('q', 'p')))).toContain(
			'expected: allReduce of 1 slots of p, as on device 0\n  found: allReduce of 1 slots of q',
		);
		expect(refusal(program(two('p', 'q'), two('q', 'p')), { ignore: ['names'] })).toBe('accepted');
	});

	test('groups are known and hold the device', () => {
		expect(refusal(program([feed('x'), allReduce(['x'], 'bath'), drop('x')], []))).toContain(
			'unknown group bath\n  expected: one of both\n  try: both',
		);
		expect(refusal(program([], [], [feed('x'), allReduce(['x']), drop('x')]))).toContain(
			'device 2 is not in group both\n  expected: one of 0, 1',
		);
	});
});

describe('deadlock', () => {
	test('names what every device waits for', () => {
		const circle = program(
			[recv('b', 1, '1>0'), drop('b'), feed('a'), send('a', 1, '0>1')],
			[recv('a', 0, '0>1'), drop('a'), feed('b'), send('b', 0, '1>0')],
			[feed('c'), drop('c')],
		);
		expect(refusal(circle)).toBe(
			[
				'program test: deadlock',
				'  expected: at every moment some device that can go on',
				'  found: device 0, iteration 0 (recv b from 1 over 1>0) waits for device 1 to send over 1>0',
				'         device 1, iteration 0 (recv a from 0 over 0>1) waits for device 0 to send over 0>1',
				'         device 2 has finished',
				'  try: send before receiving in at least one device of the circle, and enter collectives in one order everywhere',
			].join('\n'),
		);
	});

	test('a receive against a collective', () => {
		const mixed = program([feed('x'), allReduce(['x']), send('x')], [recv('y'), feed('x'), allReduce(['x']), drop('x', 'y')]);
		expect(refusal(mixed)).toContain('device 0, iteration 1 (allReduce (x) over both) waits for device 1 to enter both');
	});

	test('two groups in different orders', () => {
		const groups = { one: [deviceId(0), deviceId(1)], two: [deviceId(0), deviceId(1)] };
		const order = (...names: string[]) => [feed('x'), ...names.map((name) => allReduce(['x'], name)), drop('x')];
		expect(refusal({ ...program(order('one', 'two'), order('two', 'one')), groups })).toContain('waits for device 1 to enter one');
		expect(refusal({ ...program(order('one', 'two'), order('one', 'two')), groups })).toBe('accepted');
	});

	test('sends do not wait, so two devices may send to each other first', () => {
		expect(
			refusal(
				program(
					[feed('a'), send('a', 1, '0>1'), recv('b', 1, '1>0'), drop('b')],
					[feed('b'), send('b', 0, '1>0'), recv('a', 0, '0>1'), drop('a')],
				),
			),
		).toBe('accepted');
	});
});

describe('micro-batches', () => {
	const schedule = oneFOneB({ stages: 2, microBatches: 3 });
	const exchange = (instructions: Instruction[]) => {
		// The backwards of micro-batches 1 and 2 on the last stage exchange what was saved for them.
		const other: Record<string, string> = { 'saved:h#1': 'saved:h#2', 'saved:h#2': 'saved:h#1' };
		return instructions.map((i) =>
			i.op === 'run' && i.action?.kind === 'F' ? { ...i, outputs: i.outputs.map((o) => slotId(other[o] ?? o)) } : i,
		);
	};

	test('a value of another micro-batch is refused, unless on purpose', () => {
		const gpipe = schedule.map((row) => [...row].sort((a, b) => (a.kind === b.kind ? a.micro - b.micro : a.kind === 'F' ? -1 : 1)));
		const mixed = edit(pipelineProgram({ schedule: gpipe }), 1, exchange);
		expect(refusal(mixed)).toContain(
			'uses a value of another micro-batch\n  expected: micro-batch 1\n  found: micro-batch 2: float32[2,4] in slot saved:h#1',
		);
		expect(refusal(mixed, { ignore: ['microBatch'] })).toBe('accepted');
	});

	test('also over channels, under other names', () => {
		const swapSends = (instructions: Instruction[]) =>
			instructions.map((i) =>
				i.op === 'recv' ? { ...i, slot: slotId(i.slot === 'h1#0' ? 'h1#1' : i.slot === 'h1#1' ? 'h1#0' : i.slot) } : i,
			);
		expect(refusal(edit(pipelineProgram({ schedule }), 1, swapSends), { ignore: ['names'] })).toContain(
			'device 1, iteration 2 (run 1F0 stage1.forward (h1#0, param:w) -> (loss#0, saved:h#0)): uses slot h1#0 before it is set',
		);
		const gpipe = schedule.map((row) => [...row].sort((a, b) => (a.kind === b.kind ? a.micro - b.micro : a.kind === 'F' ? -1 : 1)));
		const early = (instructions: Instruction[]) => [
			...instructions.filter((i) => i.op === 'recv').map((i, k, all) => ({ ...i, slot: slotId(`in:${all[(k + 1) % 3]!.slot}`) })),
			...instructions
				.filter((i) => i.op !== 'recv')
				.map((i) => {
					const rename = (names: readonly string[]) => names.map((name) => slotId(name.startsWith('h1') ? `in:${name}` : name));
					return i.op === 'run' ? { ...i, inputs: rename(i.inputs) } : i.op === 'drop' ? { ...i, slots: rename(i.slots) } : i;
				}),
		];
		expect(refusal(edit(pipelineProgram({ schedule: gpipe }), 1, early))).toContain(
			'uses a value of another micro-batch\n  expected: micro-batch 0\n  found: micro-batch 2: float32[2,4] in slot in:h1#0, sent by device 0',
		);
	});
});

describe('declarations', () => {
	const base = program([], []);
	const w: Resident = { slot: slotId('w'), ...f32(4), role: 'parameter', parameter: 'w', offset: 0, bank: bankId('b') };
	const bank = { id: bankId('b'), size: 6, moments: 2 };
	const withBank = (...residents: Resident[]): Program => ({
		...base,
		devices: [{ ...base.devices[0]!, banks: [bank], residents }],
		groups: {},
	});
	test.each<[string, Program, string]>([
		['a device twice', { ...base, devices: [base.devices[0]!, base.devices[0]!] }, 'program test: device 0 is declared twice'],
		[
			'an unknown member',
			{ ...base, groups: { g: [deviceId(0), deviceId(9)] } },
			'group g: names an unknown device\n  expected: some of 0, 1\n  found: 9',
		],
		['a member twice', { ...base, groups: { g: [deviceId(0), deviceId(0)] } }, 'group g: names device 0 twice'],
		['an empty group', { ...base, groups: { g: [] } }, 'group g: has no device'],
		['a batch of scalars', { ...base, sources: { t: { ...f32(), perSample: true } } }, 'source t: has no axis of samples'],
		[
			'a bank twice',
			{ ...base, devices: [{ ...base.devices[0]!, banks: [bank, bank] }], groups: {} },
			'device 0: bank b is declared twice',
		],
		['a resident twice', withBank(w, w), 'device 0: resident slot w is declared twice'],
		[
			'an unknown bank',
			withBank({ ...w, bank: bankId('c') }),
			"resident w: lies in an unknown bank\n  expected: one of the device's banks (b)\n  found: c",
		],
		['a resident beyond its bank', withBank({ ...w, offset: 3 }), 'lies outside bank b\n  expected: elements within 0:6\n  found: 3:7'],
		['a resident of another type', withBank({ ...w, dtype: 'float16' }), 'is of another type than its bank'],
	])('%s', (_, candidate, message) => {
		expect(refusal(candidate)).toContain(message);
	});
});

describe('what is proven', () => {
	test('peak memory counts banks, residents, slots and workspace', () => {
		const frozen: Resident = { slot: slotId('c'), dtype: 'float16', shape: [10], role: 'frozen', parameter: 'c', offset: 0 };
		const base = program([feed('x'), run('double', ['x'], ['y']), drop('x'), fetch('y'), drop('y')]);
		const held = { ...base, devices: [{ ...base.devices[0]!, banks: [{ id: bankId('b'), size: 5, moments: 3 }], residents: [frozen] }] };
		const [device] = verifyProgram(held).devices;
		// Bank 5 x 4 bytes x (parameter, gradient, 3 moments), resident 10 x 2 bytes; then x and y of 2 x 3 x 4 bytes each and the workspace.
		expect(device).toMatchObject({
			fixedBytes: 100 + 20,
			peakBytes: 120 + 24 + 24 + 100,
			peakAt: { section: 'iteration', index: 1, round: 0 },
		});
		expect(refusal(held, { memoryBytes: 268 })).toBe('accepted');
		expect(refusal(held, { memoryBytes: 267 })).toContain(
			'device 0, iteration 1 (run run double (x) -> (y)): needs more memory than the device has\n  expected: at most 267 bytes\n  found: 268 bytes: 120 in banks and residents, 48 in slots, 100 of workspace',
		);
		expect(verifyProgram(program([])).devices[0]).toEqual({
			device: 0,
			fixedBytes: 0,
			peakBytes: 0,
			types: { prologue: [], iteration: [], epilogue: [] },
		});
	});

	test('deep warm-up holds more', () => {
		const peak = (warmup: 'usual' | 'deep') =>
			verifyProgram(pipelineProgram({ schedule: oneFOneB({ stages: 4, microBatches: 8, warmup }) })).devices.map((d) => d.peakBytes);
		const saved = 2 * 4 * 4;
		expect(peak('deep').map((bytes, s) => bytes - peak('usual')[s]!)).toEqual([3 * saved, 2 * saved, saved, 0]);
	});

	test('the trace runs everything twice, messages after their sends, collectives together', () => {
		const verified = verifyProgram(pipelineProgram({ schedule: oneFOneB({ stages: 2, microBatches: 2 }), replicas: 2 }));
		const { program: p, trace } = verified;
		for (const { device, iteration } of p.devices) {
			const own = trace.filter((position) => position.device === device);
			expect(own.map(({ round, index }) => [round, index])).toEqual([0, 1].flatMap((round) => iteration.map((_, index) => [round, index])));
		}
		const instructionAt = (i: number) => p.devices.find((d) => d.device === trace[i]!.device)!.iteration[trace[i]!.index]!;
		const inFlight = new Map<string, number>();
		trace.forEach((_, i) => {
			const instruction = instructionAt(i);
			if (instruction.op === 'send') inFlight.set(instruction.channel, (inFlight.get(instruction.channel) ?? 0) + 1);
			if (instruction.op === 'recv') inFlight.set(instruction.channel, inFlight.get(instruction.channel)! - 1);
			expect(Math.min(0, ...inFlight.values())).toBe(0);
		});
		const reductions = trace.flatMap((position, i) => (instructionAt(i).op === 'allReduce' ? [[i, position.device]] : []));
		for (let k = 0; k < reductions.length; k += 2) expect(reductions[k + 1]![0]).toBe(reductions[k]![0]! + 1);
		expect(reductions).toHaveLength(8);
	});

	test('the types that each instruction produces or moves', () => {
		const [first, second] = verifyProgram(
			program([feed('x'), run('double', ['x'], ['y']), send('y'), drop('x')], [recv('z'), fetch('z'), drop('z')]),
		).devices;
		expect(first!.types.iteration).toEqual([[f32(2, 3)], [f32(2, 3)], [f32(2, 3)], [f32(2, 3)]]);
		expect(second!.types.iteration).toEqual([[f32(2, 3)], [f32(2, 3)], [f32(2, 3)]]);
	});
});
