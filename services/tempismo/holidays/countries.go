package holidays

import (
	"github.com/rickar/cal/v2"
	"github.com/rickar/cal/v2/at"
	"github.com/rickar/cal/v2/be"
	"github.com/rickar/cal/v2/bg"
	"github.com/rickar/cal/v2/ch"
	"github.com/rickar/cal/v2/cy"
	"github.com/rickar/cal/v2/cz"
	"github.com/rickar/cal/v2/de"
	"github.com/rickar/cal/v2/dk"
	"github.com/rickar/cal/v2/ee"
	"github.com/rickar/cal/v2/es"
	"github.com/rickar/cal/v2/fi"
	"github.com/rickar/cal/v2/fr"
	"github.com/rickar/cal/v2/gb"
	"github.com/rickar/cal/v2/gr"
	"github.com/rickar/cal/v2/hr"
	"github.com/rickar/cal/v2/hu"
	"github.com/rickar/cal/v2/ie"
	"github.com/rickar/cal/v2/it"
	"github.com/rickar/cal/v2/lt"
	"github.com/rickar/cal/v2/lu"
	"github.com/rickar/cal/v2/lv"
	"github.com/rickar/cal/v2/mt"
	"github.com/rickar/cal/v2/nl"
	"github.com/rickar/cal/v2/no"
	"github.com/rickar/cal/v2/pl"
	"github.com/rickar/cal/v2/pt"
	"github.com/rickar/cal/v2/ro"
	"github.com/rickar/cal/v2/se"
	"github.com/rickar/cal/v2/si"
	"github.com/rickar/cal/v2/sk"
	"github.com/rickar/cal/v2/us"
)

// countries are those whose days are known, by ISO 3166-1 alpha-2. Days that only a part of a country keeps are not here; an
// operator lists them as closures with a place.
var countries = map[string]country{
	"AT": {"Austria", at.Holidays},
	"BE": {"Belgium", be.Holidays},
	"BG": {"Bulgaria", bg.Holidays},
	// The library's list is that of all cantons together. These are kept in every one.
	"CH": {"Switzerland", []*cal.Holiday{ch.Neujahr, ch.Auffahrt, ch.Bundesfeiertag, ch.Weihnachtstag}},
	"CY": {"Cyprus", cy.Holidays},
	"CZ": {"Czechia", cz.Holidays},
	"DE": {"Germany", de.Holidays},
	"DK": {"Denmark", dk.Holidays},
	"EE": {"Estonia", ee.Holidays},
	"ES": {"Spain", es.Holidays},
	"FI": {"Finland", fi.Holidays},
	"FR": {"France", fr.Holidays},
	"GB": {"United Kingdom", gb.Holidays},
	"GR": {"Greece", gr.Holidays},
	"HR": {"Croatia", hr.Holidays},
	"HU": {"Hungary", hu.Holidays},
	"IE": {"Ireland", ie.Holidays},
	"IT": {"Italy", append([]*cal.Holiday{pasqua}, it.Holidays...)},
	"LT": {"Lithuania", lt.Holidays},
	"LU": {"Luxembourg", lu.Holidays},
	"LV": {"Latvia", lv.Holidays},
	"MT": {"Malta", mt.Holidays},
	"NL": {"Netherlands", nl.Holidays},
	"NO": {"Norway", no.Holidays},
	"PL": {"Poland", pl.Holidays},
	"PT": {"Portugal", pt.Holidays},
	"RO": {"Romania", ro.Holidays},
	"SE": {"Sweden", se.Holidays},
	"SI": {"Slovenia", si.Holidays},
	"SK": {"Slovakia", sk.Holidays},
	"US": {"United States", us.Holidays},
}
