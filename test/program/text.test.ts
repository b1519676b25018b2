import { expect, test } from 'vitest';
import { gpipe } from '../../src/plan/schedules/gpipe.ts';
import { formatInstruction, formatProgram, rolesOf } from '../../src/program/text.ts';
import { bankId, channelId, deviceId, graphId, groupId, type Instruction, slotId } from '../../src/program/types.ts';
import { pipelineProgram } from './pipeline.ts';

const slots = (...names: string[]) => names.map(slotId);

test('a program in full', () => {
	expect(formatProgram(pipelineProgram({ schedule: gpipe({ stages: 2, microBatches: 1 }), replicas: 1 }))).toMatchInlineSnapshot(`
		"program chain, version 1
		source x float32[2,4], per sample
		source hyper float32[3]
		graph norm (float32[6]) -> (float32[])
		graph stage0.forward (float32[2,4], float32[6]) -> (float32[2,4] x2), workspace 64 bytes
		graph stage0.backward (float32[2,4] x2, float32[6] x2) -> (float32[6]), workspace 128 bytes
		graph stage1.forward (float32[2,4], float32[6]) -> (float32[], float32[2,4]), workspace 64 bytes
		graph stage1.backward (float32[2,4], float32[6] x2) -> (float32[6], float32[2,4]), workspace 128 bytes
		device 0
		  bank bank 6 elements, 2 moments
		  resident 1 parameter, 1 gradient
		  iteration
		     0 feed hyper <- hyper
		     1 feed h0#0 <- x[0:2]
		     2 run 0F0 stage0.forward (h0#0, param:w) -> (h1#0, saved:h#0)
		     3 drop (h0#0)
		     4 send h1#0 to 1 over 0>1
		     5 recv g1#0 from 1 over 1>0
		     6 run 0B0 stage0.backward (saved:h#0, g1#0, param:w, sum:w) -> (sum:w)
		     7 drop (saved:h#0, g1#0)
		     8 run norm norm (sum:w) -> (norm)
		     9 update bank (hyper, norm)
		    10 drop (hyper, norm)
		device 1
		  bank bank 6 elements, 2 moments
		  resident 1 parameter, 1 gradient
		  iteration
		     0 feed hyper <- hyper
		     1 recv h1#0 from 0 over 0>1
		     2 run 1F0 stage1.forward (h1#0, param:w) -> (loss#0, saved:h#0)
		     3 drop (h1#0)
		     4 fetch loss#0 as loss from 0
		     5 drop (loss#0)
		     6 run 1B0 stage1.backward (saved:h#0, param:w, sum:w) -> (sum:w, g1#0)
		     7 drop (saved:h#0)
		     8 send g1#0 to 0 over 1>0
		     9 run norm norm (sum:w) -> (norm)
		    10 update bank (hyper, norm)
		    11 drop (hyper, norm)
		"
	`);
});

test.each<[Instruction, string]>([
	[{ op: 'feed', slot: slotId('x#1'), source: 'x', from: 4, to: 8 }, 'feed x#1 <- x[4:8]'],
	[{ op: 'feed', slot: slotId('hyper'), source: 'hyper', from: 0, to: 0 }, 'feed hyper <- hyper'],
	[
		{ op: 'run', graph: graphId('vae'), inputs: slots('a'), outputs: slots('b', 'c'), label: 'encode 0:4' },
		'run encode 0:4 vae (a) -> (b, c)',
	],
	[
		{ op: 'run', graph: graphId('g'), inputs: [], outputs: [], action: { stage: 2, kind: 'I', micro: 11 }, label: 'x' },
		'run 2I11 g () -> ()',
	],
	[{ op: 'send', peer: deviceId(3), channel: channelId('2>3'), slot: slotId('h') }, 'send h to 3 over 2>3'],
	[{ op: 'recv', peer: deviceId(2), channel: channelId('2>3'), slot: slotId('h') }, 'recv h from 2 over 2>3'],
	[{ op: 'allReduce', group: groupId('all'), slots: slots('a', 'b') }, 'allReduce (a, b) over all'],
	[{ op: 'allGather', group: groupId('all'), slot: slotId('k'), output: slotId('ks'), axis: 1 }, 'allGather k -> ks over all, axis 1'],
	[{ op: 'update', bank: bankId('stage0'), hyper: slotId('hyper'), normSquared: slotId('n') }, 'update stage0 (hyper, n)'],
	[{ op: 'fetch', slot: slotId('loss#1'), name: 'loss', from: 4 }, 'fetch loss#1 as loss from 4'],
	[{ op: 'drop', slots: slots('a', 'b') }, 'drop (a, b)'],
])('%o', (instruction, text) => {
	expect(formatInstruction(instruction)).toBe(text);
});

test('long lists are summarised: residents by role, others by the kind before their colon, the rest by number', () => {
	const weights = ['w0', 'w1', 'w2', 'b'];
	const residents = weights.map(
		(name) => ({ slot: slotId(name), dtype: 'float32', shape: [1], role: 'parameter', parameter: name, offset: 0 }) as const,
	);
	const roleOf = rolesOf({ device: deviceId(0), banks: [], residents, prologue: [], iteration: [], epilogue: [] });
	const drop = (...names: string[]) => formatInstruction({ op: 'drop', slots: slots(...names) }, roleOf);
	expect(drop('x', 'w0', 'w1', 'b', 'y', 'w2')).toBe('drop (x, 3 parameters, y, w2)');
	expect(drop('saved:a#1', 'saved:b#1', 'saved:c#1', 'grad:a', 'grad:b')).toBe('drop (3 saved, grad:a, grad:b)');
	expect(drop(...'abcdefghijk')).toBe('drop (a, b, c, d, e, f, g, h, … 3 more)');
	expect(drop(...'abcdefghi')).toBe('drop (a, b, c, d, e, f, g, h, i)');
});
