/**
 * @file Filled programs: frozen parts of the next iteration run inside the bubbles of this one. The prologue runs them for the first iteration, the epilogue
 * is an iteration without them. The frozen outputs of an iteration lie in the very slots that its training would have been fed, so that the training
 * instructions stay as they were, and results with them. Iterations with a sweep ahead have a filling of their own, which leaves its results in the same slots.
 */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Parameter } from '../../nn/context.ts';
import type { FillItem } from '../../plan/fill/types.ts';
import { type BankLayout, layoutBank } from '../layout.ts';
import { type Compiled, signatureOf } from '../lower.ts';
import { sweptProgram } from '../swept.ts';
import { bankId, type DeviceProgram, type Instruction, type Program, type Resident, type Sections, type SourceType } from '../types.ts';
import { type Delivery, emitFrozen, type FrozenCode, frozenParameterSlot } from './emit.ts';
import { framesOf } from './frames.ts';
import { type FrozenPart, type Given, sourceOf } from './types.ts';
import { weave } from './weave.ts';

/** How the iterations of one kind are filled. */
export interface Filling {
	/** Over all devices and the whole batch, as in the plan. */
	readonly items: readonly FillItem[];
	/** Planned start of each action that a device runs, in its order, ms: `plannedStarts`. */
	readonly starts: (device: number) => readonly number[];
}

export interface FillLayout extends Filling {
	readonly parts: readonly FrozenPart[];
	readonly given: Given;
	/** Of iterations with a sweep ahead, in programs that have them. */
	readonly swept?: Filling;
}

export interface FilledProgram extends Compiled {
	/** Where the weights of frozen parts lie: every bank here holds those of one part's layers that run on one device. */
	readonly frozenBanks: readonly { readonly device: number; readonly part: string; readonly layout: BankLayout }[];
	/** Host sources of the frozen parts: fed to the prologue for the first iteration, and to every iteration for the next. */
	readonly frozenSources: readonly string[];
}

/**
 * `training` with the frozen work of `layout` in it. Throws a program error when a given input is not fed by the training program, when only one of program
 * and layout has iterations with a sweep ahead, or what `emitFrozen` throws.
 */
export function lowerFilled(training: Compiled, layout: FillLayout): FilledProgram {
	const { program } = training;
	const { parts, given, swept } = layout;
	for (const name of Object.keys(given)) {
		if (program.sources[name]) continue;
		throw new DiffusionPipeError('program', 'nothing feeds the input that a frozen part gives', {
			place: `${program.name}, input ${name}`,
			expected: Object.keys(program.sources).join(', '),
		});
	}
	const deliveries = program.devices.flatMap(({ device, iteration }) => deliveriesOf(device, iteration, given));
	if ((swept !== undefined) !== (sweptProgram(program) !== undefined)) {
		throw new DiffusionPipeError('program', 'not every kind of iteration has a filling', {
			place: program.name,
			expected: swept ? 'a program with a sweep ahead' : 'the filling of iterations with a sweep ahead',
		});
	}
	const code = emitFrozen(parts, framesOf(layout.items), deliveries);
	const sweptCode = swept && emitFrozen(parts, framesOf(swept.items), deliveries);
	const frozenBanks = banksOf(program, [code, ...(sweptCode ? [sweptCode] : [])]);
	const devices = program.devices.map((own): DeviceProgram => {
		const banks = frozenBanks.filter(({ device }) => device === own.device);
		const filled = ({ prologue, iteration, epilogue }: Sections, { starts }: Filling, { blocks }: FrozenCode): Sections => {
			const frozen = blocks.get(own.device) ?? [];
			const withoutFeeds = iteration.filter((i) => !(i.op === 'feed' && Object.hasOwn(given, i.source)));
			return {
				prologue: [...prologue, ...frozen.flatMap((block) => block.instructions)],
				iteration: weave(withoutFeeds, starts(own.device), frozen),
				epilogue: [...withoutFeeds, ...epilogue],
			};
		};
		return {
			...own,
			banks: [...own.banks, ...banks.map(({ layout: { bank, size } }) => ({ id: bank, size, moments: 0 }))],
			residents: [...own.residents, ...banks.flatMap(({ part, layout: bank }) => residentsOf(part, bank))],
			...filled(own, layout, code),
			...(swept ? { swept: filled(own.swept!, swept, sweptCode!) } : {}),
		};
	});
	const batch = Object.values(program.sources).find(({ perSample }) => perSample)!.shape[0]!;
	const sources: Record<string, SourceType> = { ...program.sources };
	for (const name of Object.keys(given)) delete sources[name];
	const frozenSources: string[] = [];
	for (const { name: part, trace, takes } of parts) {
		for (const [input, { dtype, shape }] of Object.entries(trace.chain.inputs)) {
			if (takes[input]) continue;
			const source = sourceOf(part, input);
			sources[source] = { dtype, shape: [batch, ...shape], perSample: true };
			frozenSources.push(source);
		}
	}
	const graphs = new Map([...training.graphs, ...code.graphs, ...(sweptCode?.graphs ?? [])]);
	const filled: Program = {
		...program,
		name: `${program.name}, filled`,
		devices,
		graphs: Object.fromEntries([...graphs].map(([id, graph]) => [id, signatureOf(graph)])),
		sources,
	};
	return { ...training, program: filled, graphs, frozenBanks, frozenSources };
}

/** A bank per device and part, of the layers that any of `codes` runs there. */
function banksOf({ devices }: Program, codes: readonly FrozenCode[]): FilledProgram['frozenBanks'] {
	return devices.flatMap(({ device }) => {
		const byPart = new Map<string, Map<string, Parameter>>();
		for (const { parameters } of codes) {
			for (const [part, own] of parameters.get(device) ?? []) byPart.set(part, new Map([...(byPart.get(part) ?? []), ...own]));
		}
		return [...byPart].flatMap(([part, own]) =>
			own.size === 0 ? [] : [{ device, part, layout: layoutBank(`frozen.${part}`, [...own.values()]) }],
		);
	});
}

/** Where training would have fed what frozen parts give. */
function deliveriesOf(device: number, iteration: readonly Instruction[], given: Given): Delivery[] {
	return iteration.flatMap((i) => {
		if (i.op !== 'feed' || !Object.hasOwn(given, i.source)) return [];
		return [{ device, slot: i.slot, value: given[i.source]!, from: i.from, to: i.to }];
	});
}

function residentsOf(part: string, { bank, parameters }: BankLayout): Resident[] {
	return parameters.map(({ name, shape, offset }) => ({
		slot: frozenParameterSlot(part, name),
		dtype: 'float32',
		shape,
		bank: bankId(bank),
		role: 'parameter',
		parameter: `${part}/${name}`,
		offset,
	}));
}
