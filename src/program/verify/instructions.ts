/** @file What an instruction says by itself: the names it uses exist, and its counts and ranges fit what they name. */
import { nearestName } from '../../core/errors.ts';
import { formatStep, type Step } from '../order.ts';
import type { DeviceProgram, Instruction, Program } from '../types.ts';
import { allSteps, faultAt } from './fault.ts';

/**
 * Throws a program error at the first instruction that names an unknown graph, source, bank, group or peer, has a wrong count or range, or fetches
 * under a name and first sample that another fetch of the section has taken.
 */
export function checkInstructions(program: Program): void {
	const fetches = new Map<string, Step>();
	for (const step of allSteps(program)) {
		checkInstruction(program, step);
		const { instruction, section } = step;
		if (instruction.op !== 'fetch') continue;
		const key = `${section} ${instruction.from} ${instruction.name}`;
		const other = fetches.get(key);
		if (other) {
			throw faultAt(program, step, `fetches ${instruction.name} from sample ${instruction.from} a second time`, {
				expected: 'one fetch of each name and first sample, since they are joined in that order',
				found: formatStep(program, other),
			});
		}
		fetches.set(key, step);
	}
}

function checkInstruction(program: Program, step: Step): void {
	const { instruction, device } = step;
	const unknown = (what: string, name: string, known: readonly string[]) => {
		const nearest = nearestName(name, known);
		const expected =
			known.length === 0 ? 'none is declared' : known.length > 12 ? `one of ${known.length} declared` : `one of ${known.join(', ')}`;
		return faultAt(program, step, `unknown ${what} ${name}`, { expected, ...(nearest === undefined ? {} : { hint: nearest }) });
	};
	if (instruction.op === 'run') {
		const signature = Object.hasOwn(program.graphs, instruction.graph) ? program.graphs[instruction.graph] : undefined;
		if (!signature) throw unknown('graph', instruction.graph, Object.keys(program.graphs));
		for (const side of ['inputs', 'outputs'] as const) {
			const [expected, found] = [signature[side].length, instruction[side].length];
			if (expected === found) continue;
			throw faultAt(program, step, `graph ${instruction.graph} has another number of ${side}`, {
				expected: String(expected),
				found: String(found),
			});
		}
	} else if (instruction.op === 'send' || instruction.op === 'recv') {
		const others = program.devices.map((d) => d.device).filter((d) => d !== device);
		if (others.includes(instruction.peer)) return;
		const found = instruction.peer === device ? `${instruction.peer}, the device itself` : String(instruction.peer);
		throw faultAt(program, step, 'wrong peer', { expected: `another device (${others.join(', ') || 'there is none'})`, found });
	} else if (instruction.op === 'allReduce' || instruction.op === 'allGather') {
		const members = Object.hasOwn(program.groups, instruction.group) ? program.groups[instruction.group] : undefined;
		if (!members) throw unknown('group', instruction.group, Object.keys(program.groups));
		if (members.includes(device)) return;
		throw faultAt(program, step, `device ${device} is not in group ${instruction.group}`, { expected: `one of ${members.join(', ')}` });
	} else if (instruction.op === 'update') {
		const banks = deviceOf(program, step).banks.map(({ id }) => id);
		if (!banks.includes(instruction.bank)) throw unknown('bank', instruction.bank, banks);
	} else if (instruction.op === 'feed') {
		checkFeed(program, step, instruction, unknown);
	}
}

function checkFeed(
	program: Program,
	step: Step,
	{ source: name, from, to }: Extract<Instruction, { op: 'feed' }>,
	unknown: (what: string, name: string, known: readonly string[]) => Error,
): void {
	const source = Object.hasOwn(program.sources, name) ? program.sources[name] : undefined;
	if (!source) throw unknown('source', name, Object.keys(program.sources));
	if (!source.perSample) {
		if (from === 0 && to === 0) return;
		throw faultAt(program, step, `source ${name} has no samples to choose from`, {
			expected: 'from 0 to 0',
			found: `from ${from} to ${to}`,
		});
	}
	const batch = source.shape[0]!;
	if (Number.isInteger(from) && Number.isInteger(to) && 0 <= from && from < to && to <= batch) return;
	throw faultAt(program, step, 'samples outside of the batch', { expected: `a range within 0:${batch}`, found: `${from}:${to}` });
}

function deviceOf(program: Program, { device }: Step): DeviceProgram {
	return program.devices.find((d) => d.device === device)!;
}
