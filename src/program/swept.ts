/** @file Programs with two kinds of iteration: those with the sweep ahead of self-conditioning beside those without. */
import type { DeviceProgram, Instruction, Program, Sections } from './types.ts';

/** The sections of a device, of each kind of iteration. */
export function kindsOf({ swept, ...plain }: DeviceProgram): readonly Sections[] {
	return swept ? [plain, swept] : [plain];
}

/** Everything that a device may run. */
export function allInstructions(device: DeviceProgram): readonly Instruction[] {
	return kindsOf(device).flatMap(({ prologue, iteration, epilogue }) => [...prologue, ...iteration, ...epilogue]);
}

/** The program in which only iterations with the sweep ahead run; undefined where there are none. */
export function sweptProgram(program: Program): Program | undefined {
	return program.devices.every(({ swept }) => swept) ? mixed(program, 'swept', 'swept') : undefined;
}

/** The program without the sections of iterations with the sweep ahead. */
export function plainProgram(program: Program): Program {
	return mixed(program, 'plain', 'plain');
}

/** The prologue of one kind with iterations and epilogue of one kind; expects a program that has it. */
export function mixed(program: Program, prologue: 'plain' | 'swept', others: 'plain' | 'swept'): Program {
	return {
		...program,
		devices: program.devices.map(({ swept, ...plain }) => {
			const of = (kind: 'plain' | 'swept'): Sections => (kind === 'swept' ? swept! : plain);
			return { ...plain, prologue: of(prologue).prologue, iteration: of(others).iteration, epilogue: of(others).epilogue };
		}),
	};
}
