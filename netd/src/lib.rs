//! Links, firewall, DHCP.
