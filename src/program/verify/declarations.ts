/** @file What a program declares must hold together before its instructions are read: devices, groups, banks, residents, sources. */
import { describe, sizeOf } from '../../core/tensor.ts';
import type { DeviceProgram, Program } from '../types.ts';
import { fault } from './fault.ts';

/** Throws a program error when a name is declared twice, a group names an unknown device, or a resident lies outside its bank. */
export function checkDeclarations(program: Program): void {
	const devices = program.devices.map(({ device }) => device);
	const twice = firstRepeated(devices);
	if (twice !== undefined) throw fault(`program ${program.name}`, `device ${twice} is declared twice`);
	for (const [name, members] of Object.entries(program.groups)) {
		const place = `group ${name}`;
		if (members.length === 0) throw fault(place, 'has no device');
		const repeated = firstRepeated(members);
		if (repeated !== undefined) throw fault(place, `names device ${repeated} twice`);
		const unknown = members.find((member) => !devices.includes(member));
		if (unknown !== undefined)
			throw fault(place, 'names an unknown device', { expected: `some of ${devices.join(', ')}`, found: String(unknown) });
	}
	for (const [name, source] of Object.entries(program.sources)) {
		if (source.perSample && source.shape.length === 0) {
			throw fault(`source ${name}`, 'has no axis of samples', {
				expected: 'a shape that begins with the batch size',
				found: describe(source),
			});
		}
	}
	for (const device of program.devices) checkResidents(device);
}

function checkResidents({ device, banks, residents }: DeviceProgram): void {
	const twice = firstRepeated(banks.map(({ id }) => id));
	if (twice !== undefined) throw fault(`device ${device}`, `bank ${twice} is declared twice`);
	const slot = firstRepeated(residents.map((resident) => resident.slot));
	if (slot !== undefined) throw fault(`device ${device}`, `resident slot ${slot} is declared twice`);
	for (const resident of residents) {
		if (resident.bank === undefined) continue;
		const place = `device ${device}, resident ${resident.slot}`;
		const bank = banks.find(({ id }) => id === resident.bank);
		if (!bank) {
			const known = banks.map(({ id }) => id).join(', ') || 'none';
			throw fault(place, 'lies in an unknown bank', { expected: `one of the device's banks (${known})`, found: resident.bank });
		}
		if (resident.dtype !== 'float32')
			throw fault(place, 'is of another type than its bank', { expected: 'float32', found: resident.dtype });
		const end = resident.offset + sizeOf(resident.shape);
		const limit = resident.role === 'gradient' ? (bank.trained ?? bank.size) : bank.size;
		if (!(resident.offset >= 0 && end <= limit)) {
			throw fault(place, `lies outside bank ${bank.id}`, {
				expected: `elements within 0:${limit}`,
				found: `${resident.offset}:${end}`,
			});
		}
	}
}

function firstRepeated<T>(items: readonly T[]): T | undefined {
	const seen = new Set<T>();
	return items.find((item) => seen.size === seen.add(item).size);
}
